"""What the answers of upstreams mean, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import ConnectorError, Kind
from ..settings import did_you_mean
from ..upstream import Trouble, trouble
from .asking import Asked
from .configuration import Named
from .findings import Finding, advice, fail, ok

CLOCK_SECONDS = 60.0
"""A clock that is further off than this breaks logins, and at last TLS."""

UNREACHED: Mapping[Trouble, str] = {
    "dns": "check how the address is spelt, and whether this machine has a network and a name server",
    "tls": "is it `http://` rather than `https://`, does the certificate fit the name, is this machine's clock right? "
    "For a certificate authority of your own set SSL_CERT_FILE",
    "timeout": "a firewall or a VPN may be in the way; where the way out is a proxy, set HTTPS_PROXY",
    "unreachable": "is the network up, and the address right? A VPN or a proxy (HTTPS_PROXY) may be needed",
    "proxy": "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; hosts that are reached without belong into NO_PROXY",
    "refused": "start the server there, or mend the address and port under `extra`",
    "closed": "is it `https://` rather than `http://`, or the other way round? Else look into the upstream's own log",
    "not HTTP": "is it `https://` rather than `http://`, and the right port?",
    "other": "mend the address under `extra`, or see what the upstream says of itself",
}

REFUSED: Mapping[Kind, str] = {
    "auth": "is the key whole, still valid, and made for this address? Some providers have keys for each region",
    "denied": "the account, its plan or its region may not use this; the provider's console says more",
    "quota": "the balance or the quota is used up; the provider's console says more",
}


def look_at(asked: Asked, told: Iterable[str] = ()) -> list[Finding]:
    """Whether one backend can be used.

    Args:
        told: what has been said before; a missing credential that is told there is not told again.
    """
    if asked.off is not None:
        return [advice(f"lets no request through: {asked.off}", asked.name)]
    why = asked.missing or ("" if asked.ready else asked.detail)
    is_told = any(text.endswith(why) for text in told)
    missing = [fail(f"has no credential: {why}", asked.name, _log_in(asked))] if why and not is_told else []
    if not asked.address:
        return missing if why else [_unasked(asked)]
    if asked.missing is not None:
        reached = asked.error is None or asked.error.status is not None
        return [
            *missing,
            ok(f"can be reached{_took(asked)}", _where(asked)) if reached else _failed(asked, asked.error),
        ]
    if asked.error is not None:
        return [_failed(asked, asked.error)]
    models = len(asked.models or ())
    return [ok(f"answers{_took(asked)}, and lists {models} model{'' if models == 1 else 's'}", _where(asked))]


def _unasked(asked: Asked) -> Finding:
    """Nothing went over the network: nobody was to be asked, or it failed before."""
    if asked.error is not None:
        return _failed(asked, asked.error)
    return ok(f"was not asked; {asked.detail}", asked.name)


def _failed(asked: Asked, error: ConnectorError | None) -> Finding:
    if error is None:
        return ok("can be reached", _where(asked))
    message = error.message.partition(" (`")[0].replace("\n", " ")[:300]  # not the gateway's timeout, but ours
    if error.status is None and error.kind in ("unavailable", "timeout"):
        why = trouble(error)
        message = message if why == "other" else message.partition("; ")[0]
        return fail(f"cannot be reached: {message}", _where(asked), UNREACHED[why])
    answer = f"HTTP {error.status}: {message}" if error.status else message
    if error.kind in REFUSED:
        return fail(f"refuses ({answer})", _where(asked), _log_in(asked) or REFUSED[error.kind])
    if error.kind == "not_found" and asked.own_list:
        return ok(f"answers{_took(asked)}, and has no list of models", _where(asked))
    if error.kind in ("unavailable", "timeout"):
        return fail(f"is not well ({answer})", _where(asked), "wait, or see what the provider says of its state")
    if error.kind == "rate_limited":
        return advice(f"limits the rate just now ({answer})", _where(asked), "wait; the gateway does so by itself")
    if error.kind == "bug":
        return fail(message, _where(asked))
    way_out = "is the base URL right, with its `/v1`? An upstream without a list wants `models` under `extra`"
    return advice(f"answers, and lists no models ({answer})", _where(asked), way_out)


def _log_in(asked: Asked) -> str:
    return f"`llmgate auth login {asked.name}`" if asked.can_log_in else ""


def _where(asked: Asked) -> str:
    return f"{asked.name} at {asked.address}" if asked.address else asked.name


def _took(asked: Asked) -> str:
    return f" after {asked.seconds:.1f} s" if asked.seconds >= 1 else f" after {asked.seconds * 1000:.0f} ms"


# --- all of them ------------------------------------------------------------------------------------------------------


def look_at_clock(all_asked: Iterable[Asked]) -> list[Finding]:
    """Whether this machine's clock differs from that of upstreams; told once, with the one that differs most."""
    known = [(asked.skew, asked.name) for asked in all_asked if asked.skew is not None]
    if not known:
        return []
    most, name = max(known, key=lambda one: abs(one[0]))
    if abs(most) <= CLOCK_SECONDS:
        return [ok("this machine's clock is right, as far as upstreams tell")]
    way = "ahead of" if most > 0 else "behind"
    what = f"this machine's clock is {abs(most):.0f} s {way} that of {name}"
    return [advice(what, next="set the clock; tokens and certificates have an hour to the second")]


def look_at_models(named: Sequence[Named], all_asked: Iterable[Asked]) -> list[Finding]:
    """Models that the configuration names and their upstream does not list."""
    listed = {asked.name: asked.models for asked in all_asked if asked.models}
    found = []
    for one in named:
        known = listed.get(one.backend)
        if known and not any(_is_same(one.model, id) for id in known):
            close = did_you_mean(one.model, known)
            hint = f"did you mean `{close}`?" if close else "`llmgate models` lists what there is"
            what = f"model `{one.model}` is not in the list of {one.backend}, which may serve it all the same"
            found.append(advice(what, one.where, hint))
    return found


def _is_same(model: str, id: str) -> bool:
    """Servers leave out a tag (`:latest`) and a folder (`models/`) where they are asked for a model."""
    return id == model or id.startswith(f"{model}:") or id.endswith(f"/{model}")

"""The conformance suite: what every connector promises, as tests that an author inherits."""

from __future__ import annotations

from .calls import AnswerChecks, ModelsChecks
from .failures import FailureChecks
from .leaks import SecretChecks
from .sent import DialectChecks, RequestChecks
from .shape import ConstructionChecks, CredentialChecks, RetryChecks, SettingsChecks, ShapeChecks


class ConnectorSuite(
    ShapeChecks,
    SettingsChecks,
    ConstructionChecks,
    CredentialChecks,
    RequestChecks,
    AnswerChecks,
    DialectChecks,
    FailureChecks,
    SecretChecks,
    RetryChecks,
    ModelsChecks,
):
    """Tries a connector against a scripted upstream on a real loopback socket.

    `class TestAcme(ConnectorSuite): connector = Acme` is a whole test file. Each test is one promise of the contract;
    its message says in words which was broken. The hooks are `settings_for`, `request`, `speech` and
    `mended`, see there.

    Attributes:
        connector: the class that is tried.
        extra: settings beside `base_url`, as they stand under `extra:` in a configuration.
        environ: the environment that the connector sees, with the key that its settings refer to.
        model: what the requests ask for.
        now: what the connector's clock shows, Unix time in seconds.
        patience: seconds that are waited for something that a good connector does at once.
    """

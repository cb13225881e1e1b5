"""`llmgate init`: what it finds, what it asks, what it never overwrites, and that the result serves."""

from __future__ import annotations

import asyncio
import io
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from llmgate_core.app import create_app
from llmgate_core.cli import init
from llmgate_core.config import find_places, load
from llmgate_core.plugins import load as load_plugins
from llmgate_core.plugins import load_all
from llmgate_core.presets import offered
from llmgate_core.testing import Exchange, LoopbackServer, ScriptedUpstream

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

KEY = "sk-MARKER-init"
OFFERS = offered(load_all().connectors)[0]
OLLAMA = "http://127.0.0.1:11434/v1/models"
ASKING = init.servers_here
MAIN = Path("config", "config.yaml")

Answer = Callable[[str], None]


@pytest.fixture(autouse=True)
def servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Sequence[str]]:
    """The servers that are found on this machine, none at first; and no key of the developer's own."""
    found: dict[str, Sequence[str]] = {}

    def here(offers: Sequence[object]) -> Mapping[str, Sequence[str]]:
        return found

    monkeypatch.setattr(init, "servers_here", here)
    for preset in [offer.preset for offer in OFFERS]:
        for name in (preset.variable, *preset.elsewhere):
            monkeypatch.delenv(name or "", raising=False)
    return found


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Puts answers into the pipe."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- found ------------------------------------------------------------------------------------------------------------


def test_a_key_in_the_environment_needs_no_question(run: Run, folder: Path) -> None:
    ended = run("init", GROQ_API_KEY=KEY)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "wrote config/config.yaml",
        "  groq         Groq, key in GROQ_API_KEY",
        "next:",
        "  llmgate serve",
        "  llmgate connect claude-code   # in a second terminal; or another agent",
    ]
    assert all(KEY not in path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml"))
    checked = run("check", GROQ_API_KEY=KEY)
    assert checked.status == 0
    assert "\nready: openai-compatible.groq" in f"\n{checked.out}"
    assert "advice" not in checked.out


def test_several_keys_and_a_server_become_backends_and_the_first_the_default(
    run: Run, folder: Path, servers: dict[str, Sequence[str]]
) -> None:
    servers[OLLAMA] = ["qwen2.5-coder:7b"]
    ended = run("init", MINIMAX_API_KEY=KEY, DEEPSEEK_API_KEY=KEY)
    assert ended.status == 0
    places = find_places(folder, folder)
    config = load(places).checked()
    assert config.default_backend == "deepseek:deepseek-v4-flash"
    names = {backend.name for backend in config.backends}
    assert names == {"openai-compatible.deepseek", "minimax.default", "openai-compatible.ollama"}
    assert "# For MiniMax, China, write" in (folder / MAIN).read_text(encoding="utf-8")


def test_a_server_alone_lends_the_default_model(run: Run, folder: Path, servers: dict[str, Sequence[str]]) -> None:
    servers[OLLAMA] = ["qwen2.5-coder:7b"]
    told = "  llmgate connect claude-code --model ollama:qwen2.5-coder:7b   # in"
    assert told in run("init").out
    explained = run("explain", "default")
    assert "openai-compatible.ollama:qwen2.5-coder:7b" in explained.out
    assert "openai-compatible.ollama:other" in run("explain", "other").out


def test_a_key_that_goes_with_another_address_is_left_alone(run: Run, folder: Path) -> None:
    ended = run("init", "--yes", OPENAI_API_KEY=KEY, OPENAI_BASE_URL="http://127.0.0.1:8000/v1")
    assert ended.status == 2
    assert "OPENAI_BASE_URL says that it is not OpenAI's" in ended.err
    assert files_in(folder) == []


# --- asked ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "line", "default"),
    [
        ("\n\n\n", "api_key: env:OPENAI_API_KEY", "openai:gpt-5-mini"),
        ("mistral\nMY_MISTRAL_KEY\nsmall\n", "api_key: env:MY_MISTRAL_KEY", "mistral:small"),
        ("9999\n3\n~/key\nnone\n", 'api_key: "file:~/key"', "openrouter"),
        ("deepseek\nfile:a\nb c\nchat\n", "api_key: file:a", "deepseek:chat"),
        ("ollama\nllama3:8b\n", "base_url: http://127.0.0.1:11434/v1", "ollama:llama3:8b"),
    ],
)
def test_three_answers_make_a_configuration(
    run: Run, folder: Path, answer: Answer, answers: str, line: str, default: str
) -> None:
    answer(answers)
    assert run("init").status == 0
    assert f"\n      {line}\n" in (folder / MAIN).read_text(encoding="utf-8")
    config = load(find_places(folder, folder)).checked()
    assert config.default_backend == default
    assert run("check").status == 0


def test_a_key_that_is_pasted_is_refused_and_not_repeated(run: Run, folder: Path, answer: Answer) -> None:
    answer(f"openai\n{KEY}\nenv:{KEY}\nenv:MINE_KEY\n\n")
    ended = run("init")
    assert ended.status == 0
    assert "never the key itself" in ended.err
    assert "export MINE_KEY=..." in ended.out
    assert all(KEY not in path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml"))
    refused = run("init", "--provider", "openai", "--force", "--key", KEY)
    assert refused.status == 2


@pytest.mark.parametrize("answers", ["", "openai\n", "nonsense\n"])
def test_where_nobody_answers_the_flags_are_named(run: Run, folder: Path, answer: Answer, answers: str) -> None:
    answer(answers)
    ended = run("init")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines()[-1].startswith("llmgate: nothing was found")
    assert all(flag in ended.err for flag in ("--provider", "--key", "--model", "--list"))
    assert files_in(folder) == []


# --- told -------------------------------------------------------------------------------------------------------------


def test_flags_take_the_place_of_every_question(run: Run, folder: Path) -> None:
    ended = run("init", "--provider", "groq", "--provider", "ollama", "--model", "llama-3.3-70b-versatile")
    assert ended.status == 0
    assert "  export GROQ_API_KEY=...   # get one at https://console.groq.com/keys" in ended.out
    config = load(find_places(folder, folder)).checked()
    assert config.default_backend == "groq:llama-3.3-70b-versatile"
    assert {backend.name for backend in config.backends} == {"openai-compatible.groq", "openai-compatible.ollama"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "gorq"], "no such provider; did you mean `groq`?"),
        (["--provider", "groq", "--model", "two words"], "`--model` takes the name of one model"),
        (["--provider", "groq", "--provider", "ollama", "--key", "env:A_KEY"], "`--key` is for one provider"),
        (["--yes"], "no provider's key is in the environment"),
    ],
)
def test_what_cannot_be_meant_is_refused(run: Run, folder: Path, arguments: list[str], words: str) -> None:
    ended = run("init", *arguments)
    assert ended.status == 2
    assert words in ended.err
    assert files_in(folder) == []


def test_the_list_shows_what_can_be_set_up_and_writes_nothing(run: Run, folder: Path) -> None:
    ended = run("init", "--list")
    assert ended.status == 0
    shown = {line.split()[0] for line in ended.out.splitlines()[1:]}
    assert shown == {offer.preset.name for offer in OFFERS}
    assert files_in(folder) == []


def test_presets_of_a_blocked_plugin_are_not_offered(run: Run) -> None:
    assert "minimax" not in run("init", "--list", LLMGATE_BLOCK_PLUGINS="minimax").out


# --- files ------------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten(run: Run, write: Write, folder: Path) -> None:
    there = str(MAIN)
    write("mine: 1", there)
    ended = run("init", "--provider", "groq")
    assert ended.status == 2
    assert ended.err.startswith(f"llmgate: {there} is there already; nothing was written")
    assert files_in(folder) == [there]
    assert run("init", "--provider", "groq", "--force").status == 0
    assert (folder / f"{there}.bak").read_text(encoding="utf-8") == "mine: 1"
    assert run("check").status == 0


def test_a_dangling_link_is_something_that_is_there(run: Run, folder: Path) -> None:
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").symlink_to(folder / "elsewhere.yaml")
    assert run("init", "--provider", "groq").status == 2
    assert not (folder / "elsewhere.yaml").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes there")
def test_files_are_the_owners_alone(run: Run, folder: Path) -> None:
    assert run("init", "--provider", "groq").status == 0
    modes = {stat.S_IMODE((folder / path).stat().st_mode) for path in files_in(folder)}
    assert modes == {0o600}


def test_another_folder_is_named_in_what_comes_next(run: Run, folder: Path) -> None:
    ended = run("init", "--provider", "groq", "--dir", "my config")
    assert "  llmgate serve --config 'my config/config.yaml'\n" in ended.out
    assert run("check", "--config", "my config/config.yaml").status == 0


def test_the_home_folders_place_is_found_without_a_flag(run: Run, folder: Path) -> None:
    home = folder.parent / "home" / ".config" / "llmgate"
    assert "\n  llmgate serve\n" in run("init", "--provider", "groq", "--dir", str(home)).out
    ended = run("init", "--provider", "groq")
    assert f"in this folder it takes the place of {home / 'config.yaml'}\n" in ended.out


def test_a_folder_that_cannot_be_is_told(run: Run, folder: Path) -> None:
    (folder / "file").touch()
    ended = run("init", "--provider", "groq", "--dir", "file/config")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("llmgate: cannot write file/config/")


# --- the result, and real servers -------------------------------------------------------------------------------------


async def one_sentence(exchange: Exchange) -> None:
    if exchange.request.path == "/v1/models":
        await exchange.reply(200, {"data": [{"id": "small", "owned_by": "vllm"}]})
    else:
        message = {"role": "assistant", "content": "Hello from the script."}
        await exchange.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def test_what_is_written_for_a_server_serves(run: Run, folder: Path, servers: dict[str, Sequence[str]]) -> None:
    servers[OLLAMA] = ["small"]
    assert run("init").status == 0

    async def ask() -> tuple[httpx.Response, list[str]]:
        async with ScriptedUpstream(one_sentence) as upstream:
            path = folder / MAIN
            text = path.read_text(encoding="utf-8").replace("http://127.0.0.1:11434", upstream.url)
            path.write_text(text, encoding="utf-8")
            config = load(find_places(folder, folder)).checked()
            gateway = create_app(config, plugins=load_plugins(config.plugin_names()))
            async with LoopbackServer(gateway.app) as url, httpx.AsyncClient(trust_env=False) as client:
                body = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
                answer = await client.post(f"{url}/v1/chat/completions", json=body)
            await gateway.aclose()
            return answer, [request.json()["model"] for request in upstream.requests if request.body]

    answer, models = asyncio.run(ask())
    assert answer.json()["choices"][0]["message"]["content"] == "Hello from the script."
    assert models == ["small"]


def test_a_server_is_asked_for_its_models_and_who_it_is() -> None:
    async def nothing(exchange: Exchange) -> None:
        await exchange.reply(404, {"data": [{"id": "small"}]})

    async def ask() -> list[list[str] | None]:
        async with ScriptedUpstream(one_sentence) as upstream, ScriptedUpstream(nothing) as other:
            url = f"{upstream.url}/v1/models"
            answers = [await init.models_at(url, "vllm"), await init.models_at(url, "llamacpp")]
            return [*answers, await init.models_at(f"{other.url}/v1/models", None)]

    assert asyncio.run(ask()) == [["small"], None, None]
    assert asyncio.run(init.models_at("http://127.0.0.1:9/v1/models", None)) is None


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "SECONDS", 0.01)

    async def silent(exchange: Exchange) -> None:
        await exchange.hung_up()

    async def ask() -> list[str] | None:
        async with ScriptedUpstream(silent) as upstream:
            return await init.models_at(f"{upstream.url}/v1/models", None)

    assert asyncio.run(ask()) is None


def test_every_server_that_presets_know_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, str | None] = {}

    async def models_at(url: str, owner: str | None) -> list[str] | None:
        asked[url] = owner
        return ["small"] if url == OLLAMA else None

    monkeypatch.setattr(init, "models_at", models_at)
    assert ASKING(OFFERS) == {OLLAMA: ["small"]}
    assert asked == {one.preset.probe: one.preset.owner for one in OFFERS if one.preset.probe}

"""The documentation tells the truth: commands run, configurations load, code works, links lead somewhere."""

from __future__ import annotations

import dataclasses
import doctest
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import click
import httpx
import pytest

from llmgate_core import ModelFacts, ModelInfo, Preset, app, cli
from llmgate_core.cli import main
from llmgate_core.cli.agents import AGENTS, Target
from llmgate_core.config import GatewayConfig, Places, decode_extra, load
from llmgate_core.errors import KINDS
from llmgate_core.plugins import load as load_plugins
from llmgate_core.plugins import settings_type
from llmgate_core.policies.uri_params import PARAMETERS
from llmgate_core.testing import Exchange, GatewayInThread, GatewayOptions, ScriptedUpstream

ROOT = Path(__file__).parent.parent
GUIDES = [ROOT / "docs" / "tutorial.md", *sorted(ROOT.glob("docs/howto/*.md"))]
"""Pages that are followed from top to bottom, each in a folder of its own: tests/test_docs_guides.py."""
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")} - {*GUIDES})
SECONDS = 60.0

DOCUMENTED_URL = "http://127.0.0.1:8000"
"""What the documentation calls the gateway; where it runs in a test, the address is another."""

NOT_RUN = ("printf",)
"""Commands in console blocks that are not ours."""


# --- reading pages ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    sort: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass
class Step:
    """One command of a console block, with the output and the exit status that the page promises."""

    command: str
    output: str = ""
    status: int = 0


def blocks(sort: str, pages: list[Path] = PAGES) -> list[Block]:
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match[2], textwrap.dedent(match[3])))
    return [block for block in found if block.sort == sort]


def session(text: str) -> list[Step]:
    """The steps of a console block; `$ echo $?` and a number tell the exit status of the step before."""
    steps: list[Step] = []
    for line in text.splitlines():
        if steps and steps[-1].command.endswith("\\"):
            steps[-1].command = f"{steps[-1].command[:-1]} {line.strip()}"
        elif line.startswith("$ "):
            steps.append(Step(line.removeprefix("$ ")))
        else:
            steps[-1].output += f"{line}\n"
    for step, asked in pairwise(steps):
        if asked.command == "echo $?":
            step.status = int(asked.output)
    return [step for step in steps if step.command != "echo $?"]


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_blocks(page: Path) -> str:
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The table below a heading: by the name in backticks in the first cell, the other cells."""
    _, _, section = (ROOT / page).read_text(encoding="utf-8").partition(f"## {heading}\n")
    cells = [line.strip("|").split(" | ") for line in section.partition("\n## ")[0].splitlines() if line[:3] == "| `"]
    return {name: [cell.strip() for cell in rest] for first, *rest in cells for name in re.findall(r"`([^`]+)`", first)}


def python_files(*pages: str) -> dict[str, str]:
    """The Python of these pages, by default of both about plugins, by the file name in its first line."""
    files = [ROOT / "docs" / f"{page}.md" for page in pages or ("plugins", "testing")]
    texts = [block.text for block in blocks("python", files)]
    return {text.partition("\n")[0].removeprefix("# "): text for text in texts}


# --- a checkout with the README's configuration, and a gateway on it --------------------------------------------------


async def hello(exchange: Exchange) -> None:
    """An Ollama that knows one sentence."""
    request = exchange.request
    if request.path == "/v1/models":
        await exchange.reply(200, {"object": "list", "data": [{"id": "qwen2.5-coder", "object": "model"}]})
        return
    asked = request.json()
    common = {"id": "chat-1", "created": 0, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "Hello from the script."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await exchange.reply(200, {**common, "object": "chat.completion", "choices": [choice]})
        return
    for text, finish in (("Hello ", None), ("from the script.", "stop")):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        await exchange.sse({**common, "object": "chat.completion.chunk", "choices": [choice]})
    await exchange.sse("[DONE]")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the pages assume: the repository's root, the README's configuration, the files of the plugin's pages."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "config" / "backends", folder / "config" / "backends")
    with ScriptedUpstream.in_thread(hello) as upstream:
        configuration = blocks("yaml", [ROOT / "README.md"])[0].text
        assert "http://127.0.0.1:11434" in configuration
        written = configuration.replace("http://127.0.0.1:11434", upstream.url)
        (folder / "config" / "config.yaml").write_text(written, encoding="utf-8")
        body = blocks("json", [ROOT / "docs" / "selectors.md"])[0].text
        for block in blocks("yaml", [ROOT / "docs" / "selectors.md"]):
            if file := re.match(r"# (\w+\.yaml)\n", block.text):
                (folder / file[1]).write_text(block.text, encoding="utf-8")
        (folder / "body.json").write_text(body, encoding="utf-8")
        failed = blocks("json", [ROOT / "docs" / "edit-precision.md"])[0].text
        (folder / "failed-edit.json").write_text(failed, encoding="utf-8")
        for name, text in python_files().items():
            (folder / name).write_text(text, encoding="utf-8")
        yield folder


@pytest.fixture(scope="module")
def gateway(checkout: Path) -> Iterator[str]:
    """The URL of a gateway with the README's configuration."""
    with served(checkout, []) as running:
        yield running.url


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which nothing of the developer's own is found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMGATE_", "QWEN_"))}
    kept = {name: value for name, value in kept.items() if not name.endswith("_API_KEY")}
    return {**kept, "HOME": str(folder), "NO_PROXY": "*", "no_proxy": "*", **(extra or {})}


@dataclass
class Running:
    """A gateway that runs; `output` is complete when it has ended."""

    url: str
    output: str = ""


@contextmanager
def served(folder: Path, arguments: list[str], extra: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`llmgate serve` on a free port, until the block ends; it must end with status 0."""
    environ = environment(folder, {**(extra or {}), "LLMGATE_PORT": "0", "PYTHONUNBUFFERED": "1"})
    command = [sys.executable, "-m", "llmgate_core", "serve", *arguments]
    with TemporaryFile("w+", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=stderr, encoding="utf-8"
        )
        watchdog = threading.Timer(SECONDS, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            address = re.search(r"http://\S+", first)
            assert address, (stderr.seek(0), stderr.read())
            running = Running(address[0])
            yield running
        finally:
            process.terminate()
            rest, _ = process.communicate()
            watchdog.cancel()
    assert process.returncode == 0
    running.output = (first + rest).replace(running.url, DOCUMENTED_URL)


def run(folder: Path, command: str | list[str], extra: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit status of a command, and what it said: all of it if it failed, else standard output."""
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment(folder, extra),
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def run_here(folder: Path, arguments: list[str], extra: Mapping[str, str]) -> tuple[int, str]:
    """The same of `llmgate ARGUMENTS`, in this process, as there are many."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in os.environ:
            patch.delenv(name)
        for name, value in environment(folder, extra).items():
            patch.setenv(name, value)
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["llmgate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    status = int(ended.value.code or 0)
    return status, out.getvalue() + (err.getvalue() if status else "")


def agrees(promised: str, said: str) -> bool:
    """Whether the page's output is what was said; `...` stands for anything."""
    said = said if said.endswith("\n") else f"{said}\n"
    return not promised or doctest.OutputChecker().check_output(promised, said, doctest.ELLIPSIS)


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_commands_do_what_the_page_says(block: Block, checkout: Path, request: pytest.FixtureRequest) -> None:
    for step in session(block.text):
        if step.command.startswith(NOT_RUN):
            continue
        if step.command.startswith("curl "):
            if shutil.which("curl") is None:
                pytest.skip("there is no curl on this machine")
            url = request.getfixturevalue("gateway")
            status, said = run(checkout, step.command.replace(DOCUMENTED_URL, url))
        else:
            status, said = run_llmgate(checkout, step)
        assert status == step.status, f"{step.command}\n{said}"
        assert agrees(step.output, said), f"{step.command}\n{said}"


def run_llmgate(folder: Path, step: Step) -> tuple[int, str]:
    words = shlex.split(step.command)
    start = words.index("llmgate")
    extra, arguments = dict(word.split("=", 1) for word in words[:start]), words[start + 1 :]
    if arguments[0] == "init":  # it is for a folder without a configuration
        with TemporaryDirectory(dir=folder) as new:
            return run_here(Path(new), arguments, extra)
    if arguments[0] != "serve":
        return run_here(folder, arguments, extra)
    if step.status:
        return run(folder, [sys.executable, "-m", "llmgate_core", *arguments], extra)
    with served(folder, arguments[1:], extra) as running:
        pass
    return 0, running.output


def test_make_has_the_targets_that_pages_name() -> None:
    named = {target for block in blocks("sh") for target in re.findall(r"^make (\w+)", block.text, re.MULTILINE)}
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named >= {"demo", "test", "check"}
    assert named <= targets


def shell_lines() -> list[str]:
    """The lines of `sh` blocks that call llmgate; tests/test_docs_shell.py runs those that can be run."""
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    return sorted({line for line in lines if re.match(r"(\w+=\S+ )*llmgate ", line)})


@pytest.mark.parametrize("line", shell_lines())
def test_the_command_line_understands_what_pages_say(line: str) -> None:
    words = shlex.split(line, comments=True)
    command: click.Command = cli.llmgate
    context = click.Context(command)
    words = words[words.index("llmgate") + 1 :]
    while isinstance(command, click.Group):
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
    command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("page", [*PAGES, *GUIDES], ids=lambda page: page.name)
def test_no_page_installs_the_foreign_project_of_our_name(page: Path) -> None:
    assert not re.search(r"install\s+(\"|')?llmgate(?![-_/.\w])", page.read_text(encoding="utf-8"))


def test_the_python_of_the_readme_talks_to_the_gateway(gateway: str, checkout: Path) -> None:
    [block] = blocks("python", [ROOT / "README.md"])
    assert DOCUMENTED_URL in block.text
    code = block.text.replace(DOCUMENTED_URL, gateway)
    assert run(checkout, [sys.executable, "-c", code]) == (0, "Hello from the script.")


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_configurations_load(block: Block, checkout: Path, tmp_path: Path) -> None:
    config = configuration(block.text.replace("64-HEXADECIMAL-DIGITS", "0" * 64), tmp_path)
    plugins = load_plugins(config.plugin_names(), files=[checkout / "acme.py"])
    assert not plugins.problems
    for backend in config.backends:
        _, problems = decode_extra(backend, settings_type(plugins.connectors[backend.type]))
        assert not problems


def configuration(text: str, folder: Path) -> GatewayConfig:
    """What a block says, as the main file or, where its first line names such a file, as one backend's."""
    instance = re.match(r"# config/backends/backend-instances/(\S+)\n", text)
    path = folder / (instance[1] if instance else "config.yaml")
    path.write_text(text, encoding="utf-8")
    return load(Places(None, folder) if instance else Places(path)).checked()


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    assert isinstance(json.loads(block.text), dict)


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_every_python_block_of_the_plugin_page_is_tried_here() -> None:
    tried = {"acme.py", "acme_quirks.py", "acme_login.py", "test_acme.py", "upstream.py"}
    assert set(python_files("plugins")) == tried | {"acme_oauth.py", "test_acme_oauth.py"}


def test_the_page_names_what_a_preset_says() -> None:
    assert list(rows("docs/plugins.md", "Offer presets")) == [entry.name for entry in dataclasses.fields(Preset)]


def test_the_policy_of_the_plugin_page_is_the_plugin() -> None:
    source = (ROOT / "plugins" / "cap_tokens" / "llmgate_cap_tokens" / "__init__.py").read_text(encoding="utf-8")
    assert source in [block.text for block in blocks("py", [ROOT / "docs" / "plugins.md"])]


def backend_at(folder: Path, name: str, url: str) -> list[str]:
    path = folder / f"{name}.yaml"
    path.write_text(f"backends: {{{name}: {{extra: {{base_url: '{url}/v1'}}}}}}\n", encoding="utf-8")
    return ["--config", str(path)]


def ask(url: str, *, stream: bool = False) -> httpx.Response:
    body = {"model": "small?temperature=0.2", "stream": stream, "messages": [{"role": "user", "content": "你好"}]}
    headers = {"x-session-id": "session-1"}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=SECONDS, trust_env=False)


def test_the_connector_of_the_plugin_page_answers(checkout: Path, tmp_path: Path) -> None:
    with ScriptedUpstream.in_thread(hello) as upstream:
        arguments = ["--plugin", str(checkout / "acme.py"), *backend_at(tmp_path, "acme", upstream.url)]
        with served(tmp_path, arguments, {"ACME_API_KEY": "not-a-real-key"}) as running:
            plain, stream = ask(running.url), ask(running.url, stream=True)
    assert plain.json()["choices"][0]["message"]["content"] == "Hello from the script."
    assert stream.text.endswith("data: [DONE]\n\n")
    assert plain.headers["x-llmgate-backend"] == "acme.default"
    request = upstream.requests[0]
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", "Bearer not-a-real-key")
    assert (request.json()["model"], request.json()["temperature"]) == ("small", 0.2)


def test_the_connector_with_quirks_mends_what_the_page_says(checkout: Path, tmp_path: Path) -> None:
    async def old_acme(exchange: Exchange) -> None:
        if exchange.request.json()["stream"]:
            await exchange.sse(b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}')
        else:
            await exchange.reply(503, {"error": {"message": "Busy.", "code": "acme_busy"}})

    with ScriptedUpstream.in_thread(old_acme) as upstream:
        arguments = ["--plugin", str(checkout / "acme_quirks.py"), *backend_at(tmp_path, "acme-quirks", upstream.url)]
        with served(tmp_path, arguments) as running:
            busy, stream = ask(running.url), ask(running.url, stream=True)
            listed = httpx.get(f"{running.url}/v1/models", timeout=SECONDS, trust_env=False).json()["data"]
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert busy.json()["error"]["message"].startswith("Busy.")
    assert stream.text.endswith('"finish_reason": "stop"}]}\n\n')
    assert upstream.requests[1].json()["stream_options"] == {"include_usage": True}
    assert upstream.requests[1].headers["x-acme-session"] == "session-1"
    assert {model["id"] for model in listed} >= {"acme-quirks:small", "acme-quirks:large"}


def test_the_connector_with_a_login_logs_in(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    polls = 0

    async def issuer(exchange: Exchange) -> None:
        nonlocal polls
        if exchange.request.path == "/device":
            code = {"device_code": "secret-device", "user_code": "ACME-1", "expires_in": 60}
            await exchange.reply(200, {**code, "verification_uri": "https://acme.example/go"})
            return
        polls += 1
        reply = {"access_token": "secret-token"} if polls > 1 else {"error": "authorization_pending"}
        await exchange.reply(200 if polls > 1 else 400, reply)

    async def at_once(seconds: float) -> None:
        """Does not wait."""

    world = dataclasses.replace(app.real_world(), home=tmp_path, sleep=at_once)
    monkeypatch.setattr(app, "real_world", lambda: world)
    with ScriptedUpstream.in_thread(issuer) as upstream:
        command = ["auth", "login", "acme-login", "--plugin", str(checkout / "acme_login.py")]
        status, said = run_here(tmp_path, [*command, "--acme-issuer", upstream.url], {})
    assert status == 0, said
    assert "https://acme.example/go\n  code ACME-1\n" in said
    assert said.endswith(f"acme-login.default: logged in; the token is in {tmp_path}/.acme-token\n")
    assert "secret" not in said
    assert (tmp_path / ".acme-token").read_text() == "secret-token"
    assert (tmp_path / ".acme-token").stat().st_mode & 0o777 == 0o600


def test_the_tests_of_the_plugin_page_pass(checkout: Path) -> None:
    status, said = run(checkout, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py"])
    assert status == 0, said
    assert "3 passed" in said


def test_the_oauth_tests_of_the_plugin_page_pass(checkout: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-W", "error"]
    status, said = run(checkout, [sys.executable, "-m", "pytest", *options, "test_acme_oauth.py"])
    assert status == 0, said
    assert "3 passed" in said


def test_the_oauth_tests_of_the_plugin_page_see_a_refresh_token_that_is_not_kept(
    checkout: Path, tmp_path: Path
) -> None:
    kept = 'self.refresh_token = body.get("refresh_token", self.refresh_token)'
    files = python_files()
    assert kept in files["acme_oauth.py"]
    (tmp_path / "acme_oauth.py").write_text(files["acme_oauth.py"].replace(kept, "pass"), encoding="utf-8")
    (tmp_path / "test_acme_oauth.py").write_text(files["test_acme_oauth.py"], encoding="utf-8")
    status, said = run(tmp_path, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"])
    assert (status, "2 failed, 1 passed" in said) == (1, True), said


TESTED_ELSEWHERE = {"test_acme_suite.py"}
"""Files of the testing page that tests/test_testing_suite.py runs, as docs/plugins.md has them too."""


def test_the_examples_of_the_testing_page_pass(checkout: Path) -> None:
    files = set(python_files("testing")) - TESTED_ELSEWHERE
    assert files == {f"test_{what}.py" for what in ("acme_gateway", "acme_streams", "scripted", "loopback", "issuer")}
    options = ["-q", "-p", "no:cacheprovider", "-W", "error"]
    status, said = run(checkout, [sys.executable, "-m", "pytest", *options, *sorted(files)])
    assert status == 0, said
    assert "6 passed" in said


def test_the_suite_of_the_testing_page_is_that_of_the_plugin_page() -> None:
    _, _, example = python_files()["test_acme_suite.py"].partition("\n")
    assert example in [block.text for block in blocks("py", [ROOT / "docs" / "plugins.md"])]


@pytest.mark.parametrize(
    ("heading", "cls"),
    [("A whole gateway", GatewayOptions), ("A whole gateway", GatewayInThread), ("A scripted upstream", Exchange)],
)
def test_the_testing_page_tells_every_name(heading: str, cls: type[object]) -> None:
    section = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    told = set(re.findall(r"`(?:exchange\.)?(\w+)[^`]*`", section.partition("\n## ")[0]))
    public = {name for name in (*vars(cls), *cls.__annotations__) if not name.startswith("_")}
    assert public - told == set()


def test_the_stand_in_of_the_plugin_page_answers(checkout: Path) -> None:
    process = subprocess.Popen([sys.executable, "upstream.py"], cwd=checkout, stdout=subprocess.PIPE, encoding="utf-8")
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        reply: Any = httpx.post(f"{url}/v1/chat/completions", json={}, timeout=SECONDS, trust_env=False).json()
    finally:
        process.kill()
        process.communicate()
        watchdog.cancel()
    assert reply["choices"][0]["message"]["content"] == "Hello from the script."


def toml_of_the_plugin_page(beginning: str) -> str:
    [block] = [one.text for one in blocks("toml", [ROOT / "docs" / "plugins.md"]) if one.text.startswith(beginning)]
    return block


def test_the_facts_of_the_plugin_page_can_be_read_and_show_every_field() -> None:
    table = ModelFacts.read(toml_of_the_plugin_page("[[model]]"))
    assert table.ids == ("acme-large",)
    found = table.get("acme-large-2")
    assert found is not None
    assert all(getattr(found, entry.name) for entry in dataclasses.fields(ModelInfo))


def test_the_entry_point_of_the_plugin_page_is_named_like_its_connector() -> None:
    block = toml_of_the_plugin_page("# pyproject.toml")
    project = tomllib.loads(block)["project"]
    assert project["entry-points"]["llmgate"] == {"acme": "llmgate_acme"}
    own = tomllib.loads((ROOT / "plugins" / "qwen_oauth" / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["dependencies"] == own["project"]["dependencies"]


# --- tables that repeat what the code says ----------------------------------------------------------------------------


def test_the_kinds_of_failure_are_those_of_the_code() -> None:
    told = rows("docs/errors.md", "When an upstream fails")
    assert {name: cells[1:] for name, cells in told.items() if name in KINDS} == {
        kind: [
            str(facts.status or "the upstream's"),
            f"`{facts.code}`",
            "" if facts.repeat else "yes",
        ]
        for kind, facts in KINDS.items()
    }
    assert set(rows("docs/plugins.md", "Kinds of failure")) >= set(KINDS)


def test_the_parameters_are_those_of_the_code() -> None:
    told = rows("docs/selectors.md", "Parameters")
    assert set(told) == set(PARAMETERS)
    for name, parameter in PARAMETERS.items():
        if parameter.kind == "choice":
            assert re.findall(r"`(\w+)`", told[name][0]) == list(parameter.choices)
        else:
            bounds = [str(bound) for bound in (parameter.minimum, parameter.maximum) if bound is not None]
            assert [bound for bound in bounds if not re.search(rf"(?<!\d){bound}(?!\d)", told[name][0])] == []


def test_the_lines_for_agents_are_those_of_the_code() -> None:
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/agents.md"))
    for agent in AGENTS.values():
        file_or_shell, *_ = agent.pieces(Target(DOCUMENTED_URL, False, "local:qwen2.5-coder"))
        assert f"\n{file_or_shell.text}\n```" in readme, agent.name
        for piece in agent.pieces(Target(DOCUMENTED_URL, False, "minimax:MiniMax-M3", 1_000_000, 524_288)):
            assert f"\n# {piece.where}:\n{piece.text}\n" in page, agent.name


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, *GUIDES], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []

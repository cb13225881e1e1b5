"""What the gateway costs, beside a direct call, nginx and a bare pass-through: `python benchmarks/run.py`.

All of them run at once; the load goes to one after the other, in interleaved rounds, and what counts is the median of
the rounds and the ratio to the bare pass-through. CPU is what the operating system has accounted to the process tree.
Linux only (`/proc`). nginx is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

HERE = Path(__file__).parent
SMALL, LARGE = 300, 85_000
CONNECTIONS = 16
TICK = os.sysconf("SC_CLK_TCK")

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 1m;
  client_body_temp_path {folder}; proxy_temp_path {folder};
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
LLMGATE = """
backends:
  stub:
    type: openai-compatible
    extra: {{base_url: "http://127.0.0.1:{stub}/v1", api_key: a-key-of-no-value, models: [m]}}
"""


@dataclass
class Target:
    """Something that answers chat completions."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None
    start_seconds: float = 0.0
    measured: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def cpu(self) -> float:
        """Seconds of CPU of the process and its children."""
        return sum(_cpu(pid) for pid in self.pids())

    def rss(self) -> float:
        """Resident memory in MiB."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def pids(self) -> list[int]:
        """The process and its children."""
        if self.process is None:
            return []
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


# --- the load --------------------------------------------------------------------------------------------------------


def request(kind: str, size: int) -> bytes:
    """A chat request of about `size` bytes, in HTTP."""
    extra = {"plain": "", "stream": '"stream":true,', "burst": '"stream":true,"burst":true,'}[kind]
    frame = f'{{"model":"m",{extra}"messages":[{{"role":"user","content":"%s"}}]}}'
    body = (frame % ("y" * (size - len(frame)))).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> float:
    """One request; seconds until the first body byte."""
    began = time.perf_counter()
    writer.write(data)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200" not in head.split(b"\r\n")[0]:
        raise RuntimeError(head.decode())
    if b"content-length:" in head:
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        return time.perf_counter() - began
    first = 0.0
    while size := int(await reader.readline(), 16):
        first = first or time.perf_counter() - began
        await reader.readexactly(size + 2)
    await reader.readexactly(2)
    return first


async def load(port: int, data: bytes, requests: int, connections: int) -> list[float]:
    """`requests` over `connections`; the times to first byte."""

    async def worker() -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        try:
            return [await ask(reader, writer, data) for _ in range(requests // connections)]
        finally:
            writer.close()

    return [first for part in await asyncio.gather(*(worker() for _ in range(connections))) for first in part]


async def measure(target: Target, requests: int) -> None:
    """One round for one target."""
    for name, kind, size in (("300 B", "plain", SMALL), ("85 kB", "plain", LARGE)):
        data = request(kind, size)
        cpu, began = target.cpu(), time.perf_counter()
        await load(target.port, data, requests, CONNECTIONS)
        target.measured[f"requests/s, {name}"].append(requests / (time.perf_counter() - began))
        target.measured[f"CPU µs/request, {name}"].append((target.cpu() - cpu) / requests * 1e6)
    alone = await load(target.port, request("plain", SMALL), 100, 1)
    target.measured["latency ms, 1 connection"].append(statistics.median(alone) * 1e3)
    firsts = await load(target.port, request("stream", SMALL), 20, 1)
    target.measured["time to first token ms, 1 connection"].append(statistics.median(firsts) * 1e3)
    for name, kind, streams in (("paced", "stream", requests // 8), ("burst", "burst", requests // 4)):
        cpu, began = target.cpu(), time.perf_counter()
        await load(target.port, request(kind, SMALL), streams, CONNECTIONS)
        if name == "burst":
            target.measured["chunks/s, burst"].append(streams * 51 / (time.perf_counter() - began))
        target.measured[f"CPU µs/chunk, {name}"].append((target.cpu() - cpu) / streams / 51 * 1e6)


# --- what is measured ------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running(name: str, port: int, command: list[str]) -> Iterator[Target]:
    """A process, once it accepts connections; killed in the end."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - began > 20:
                    raise SystemExit(f"{name} did not start: {' '.join(command)}") from None
                time.sleep(0.002)
        yield Target(name, port, process, time.perf_counter() - began)
    finally:
        process.kill()
        process.wait()


def targets(stack: ExitStack, folder: Path) -> list[Target]:
    """The stub, and everything before it."""
    stub, python = free_port(), sys.executable
    stack.enter_context(running("stub", stub, [python, str(HERE / "stub.py"), str(stub)]))
    found = [Target("direct", stub, None)]
    if nginx := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        port = free_port()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, stub=stub, port=port))
        found.append(stack.enter_context(running("nginx", port, [nginx, "-c", str(folder / "nginx.conf")])))
    port = free_port()
    bare = [python, str(HERE / "bare.py"), str(port), f"http://127.0.0.1:{stub}"]
    found.append(stack.enter_context(running("bare", port, bare)))
    port = free_port()
    (folder / "llmgate.yaml").write_text(LLMGATE.format(stub=stub))
    command = [python, "-m", "llmgate_core", "serve", "--config", str(folder / "llmgate.yaml"), "--port", str(port)]
    found.append(stack.enter_context(running("llmgate", port, command)))
    return found


def table(found: list[Target]) -> str:
    """Medians, and the ratio of llmgate to the bare pass-through, in Markdown."""
    names = [target.name for target in found]
    lines = [f"| | {' | '.join(names)} | llmgate / bare |", "|---|" + "--:|" * (len(names) + 1)]
    for what in found[-1].measured:
        medians = {target.name: statistics.median(target.measured[what]) for target in found}
        cells = [f"{medians[name]:,.0f}" if medians[name] >= 10 else f"{medians[name]:.2f}" for name in names]
        cells = [
            "-" if target.process is None and "CPU" in what else cell for target, cell in zip(found, cells, strict=True)
        ]
        lines.append(f"| {what} | {' | '.join(cells)} | {medians['llmgate'] / medians['bare']:.2f} |")
    rss = [f"{target.rss():.0f}" if target.process else "-" for target in found]
    start = [f"{target.start_seconds:.2f}" if target.process else "-" for target in found]
    lines.append(f"| memory after the load, MiB | {' | '.join(rss)} | {found[-1].rss() / found[-2].rss():.2f} |")
    ratio = found[-1].start_seconds / found[-2].start_seconds
    lines.append(f"| start, seconds until it accepts | {' | '.join(start)} | {ratio:.2f} |")
    return "\n".join(lines)


async def main() -> None:
    """Rounds, then the table."""
    parser = argparse.ArgumentParser(
        description="What the gateway costs, beside direct, nginx and a bare pass-through."
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1600, help="per round, target and kind")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = targets(stack, folder)
        for target in found:
            await load(target.port, request("plain", SMALL), 160, CONNECTIONS)  # warm
        for number in range(options.rounds):
            for target in found:
                await measure(target, options.requests)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        print(table(found))


if __name__ == "__main__":
    uvloop.run(main())

"""Modelyard beside LiteLLM's proxy and the bare upstream, in one run.

    python -m benchmarks.serving.compare [--seconds 8] [--rounds 3] [--json OUT] [--without-litellm] [--litellm VERSION] [--sentences]

Each server is one process with one worker, pinned to a core of its own where there are two; wrk loads it from the others. Rounds are
interleaved, and the median of each server's rounds counts. Every prompt is distinct, so that no cache helps. Modelyard authenticates a key
with limits, classifies, routes with a learned router, keeps breakers and writes usage; LiteLLM authenticates its master key over two
deployments and a fallback, without a database, bytecode compiled, OpenTelemetry installed. Needs wrk (Debian: wrk) and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.serving.bench_yard import make

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CASES: Final = (("whole", 16), ("whole", 1), ("stream", 16))
LITELLM: Final = "1.108.7"  # the newest when this was measured
LITELLM_CONFIG: Final = """
model_list:
  - {{model_name: bench, litellm_params: {{model: openai/stub, api_base: "http://127.0.0.1:{port}/v1", api_key: none}}}}
  - {{model_name: bench, litellm_params: {{model: openai/stub, api_base: "http://127.0.0.1:{port}/v1", api_key: none}}}}
  - {{model_name: other, litellm_params: {{model: openai/stub, api_base: "http://127.0.0.1:{port}/v1", api_key: none}}}}
router_settings: {{fallbacks: [{{bench: [other]}}], num_retries: 2}}
litellm_settings: {{telemetry: false}}
general_settings: {{master_key: sk-benchmark}}
"""


@dataclass(frozen=True)
class Server:
    """A server under load: where it listens, what to ask for with which key, and its process where its CPU time counts."""

    name: str
    port: int
    model: str
    key: str
    pid: int | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without-litellm", action="store_true")
    parser.add_argument("--litellm", default=LITELLM, metavar="VERSION")
    parser.add_argument("--sentences", action="store_true", help="let the classifier look at sentence embeddings, too")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("This benchmark needs wrk, as in Debian's package wrk.")
    cores = sorted(os.sched_getaffinity(0))
    # The server under load has a core of its own where there are two; the stub and the client share the other one then.
    own = [cores[0], cores[min(1, len(cores) - 1)]]
    clients = cores[2:] or cores[:1]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = free_port()
        stub = stack.enter_context(
            process([sys.executable, "-m", "benchmarks.serving.stub", str(upstream)], core=own[0])
        )
        wait_for(upstream, "")
        servers = [Server("direct", upstream, "stub", "none", stub.pid)]
        servers.append(stack.enter_context(modelyard(scratch, upstream, own[1], sentences=args.sentences)))
        if not args.without_litellm:
            servers.append(stack.enter_context(litellm(scratch, upstream, own[1], args.litellm)))
        results = measure(servers, args.rounds, args.seconds, clients)
    print(table(results))
    if args.json:
        args.json.write_text(
            json.dumps({"schema": 1, "command": "serving", "seed": 0, "n": args.rounds, "results": results}, indent=1)
        )
    return 0


@contextmanager
def modelyard(scratch: Path, upstream: int, core: int, *, sentences: bool) -> Iterator[Server]:
    """Serve Modelyard with everything on."""
    environment = make(scratch / "yard", upstream, sentences=sentences)
    command = str(Path(sys.executable).with_name("modelyard"))
    key = key_with_limits(scratch / "yard")
    port = free_port()
    with process([command, "serve", "--port", str(port)], core=core, env=environment) as server:
        wait_for(port, key)
        yield Server("modelyard", port, "bench", key, server.pid)


def key_with_limits(home: Path, url: str | None = None) -> str:
    """Make an API key that stands under every kind of limit, none of which is reached, and return it."""
    from modelyard.control.keys import KeyRing
    from modelyard.control.quotas import Quota, Quotas
    from modelyard.settings import Settings
    from modelyard.storage import Database

    database = Database(url or Settings(home=home).database)
    database.migrate()
    ring, quotas = KeyRing(database), Quotas(database)
    principal, key = ring.create("bench", "load", ["chat", "analytics"])
    limits = {"requests_per_minute": 10**9, "tokens_per_minute": 2 * 10**9, "usd_per_day": 1e6, "usd_per_month": 5e6}
    quotas.put(Quota("key", str(principal.key_id), **limits))
    quotas.put(Quota("project", str(principal.project), **limits))
    quotas.close()
    ring.close()
    database.close()
    return key


@contextmanager
def litellm(scratch: Path, upstream: int, core: int, version: str) -> Iterator[Server]:
    """Serve LiteLLM's proxy from an environment of its own, kept beside the tools of this repository."""
    home = ROOT / ".tools" / f"litellm-{version}"
    if not (home / "bin" / "litellm").exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", str(home)], check=True)
        wanted = [f"litellm[proxy]=={version}", "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp"]
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(home / "bin" / "python"), *wanted],
            check=True,
        )
    config = scratch / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(port=upstream), "utf-8")
    port = free_port()
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DO_NOT_TRACK": "1"}
    command = [
        str(home / "bin" / "litellm"),
        "--config",
        str(config),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--num_workers",
        "1",
    ]
    with process(command, core=core, env=environment) as server:
        wait_for(port, "sk-benchmark", seconds=120)
        yield Server("litellm", port, "bench", "sk-benchmark", server.pid)


def measure(servers: list[Server], rounds: int, seconds: int, cores: list[int]) -> dict[str, Any]:
    """Load every server in every case, round by round, and return the medians."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for _ in range(rounds):
        for mode, connections in CASES:
            for server in servers:
                one = load(server, mode, connections, seconds, cores)
                found.setdefault(f"{mode}-{connections}", {}).setdefault(server.name, []).append(one)
    return {
        case: {
            name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            for name, runs in by_server.items()
        }
        for case, by_server in found.items()
    }


def load(server: Server, mode: str, connections: int, seconds: int, cores: list[int]) -> dict[str, float]:
    """Load one server with wrk, and return its rate, latency, CPU time and what went wrong."""
    threads = min(len(cores), connections, 2)
    command = [
        "taskset",
        "-c",
        ",".join(map(str, cores)),
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
    ]
    command += [
        "-s",
        str(HERE / "prompts.lua"),
        f"http://127.0.0.1:{server.port}",
        "--",
        server.model,
        server.key,
        mode,
    ]
    before = cpu_seconds(server.pid)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    used = cpu_seconds(server.pid) - before
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    answered = max(1, facts["requests"] - facts["not_200"])
    return {
        "per_second": answered / facts["seconds"],
        "cpu_ms": 1000 * used / answered,
        "p50_ms": facts["p50_ms"],
        "p99_ms": facts["p99_ms"],
        "failed": facts["not_200"] + facts["broken"],
    }


def cpu_seconds(pid: int | None) -> float:
    """Return the CPU time of a process with its threads."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(results: dict[str, Any]) -> str:
    """Return the results as text, with ratios to LiteLLM."""
    lines = [
        f"{'case':<12}{'server':<12}{'per second':>12}{'CPU ms':>10}{'p50 ms':>10}{'p99 ms':>10}{'failed':>8}{'× LiteLLM':>12}"
    ]
    for case, by_server in results.items():
        base = by_server.get("litellm", {}).get("per_second")
        for name, row in by_server.items():
            ratio = f"{row['per_second'] / base:.1f}" if base else "–"
            lines.append(
                f"{case:<12}{name:<12}{row['per_second']:>12.0f}{row['cpu_ms']:>10.3f}{row['p50_ms']:>10.2f}{row['p99_ms']:>10.2f}"
                f"{row['failed']:>8.0f}{ratio:>12}"
            )
        if "modelyard" in by_server:
            added = by_server["modelyard"]["p50_ms"] - by_server["direct"]["p50_ms"]
            lines.append(f"{'':<12}Modelyard adds {added:.2f} ms at the median")
    return "\n".join(lines)


@contextmanager
def process(command: list[str], *, core: int, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on one core, and end it afterwards."""
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(["taskset", "-c", str(core), *command], env=env, stdout=log, stderr=log, cwd=ROOT)
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, key: str, seconds: float = 60.0) -> None:
    """Wait until a chat request is answered."""
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    deadline, problem = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
            urllib.request.urlopen(request, timeout=30).read()
            return
        except OSError as error:
            problem = str(error)
            time.sleep(0.2)
    raise SystemExit(f"The server at port {port} did not answer within {seconds:g} s: {problem}.")


if __name__ == "__main__":
    raise SystemExit(main())

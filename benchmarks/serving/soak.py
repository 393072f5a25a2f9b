"""Does the server's memory grow? Two runs: many requests with everything on, and fewer with retrieval.

    python -m benchmarks.serving.soak [--requests 500000] [--with-retrieval 20000] [--clients 50] [--cache-mb 4] [--json OUT]

Resident memory is read after a warm-up of a tenth of the requests, and at the end. Caches are bounded, and small here (`--cache-mb`), so
that they are full when the warm-up is over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.serving.bench_yard import make
from benchmarks.serving.compare import HERE, free_port, key_with_limits, process, wait_for

BURST_S = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--with-retrieval", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--cache-mb", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {
        name: soak(model, wanted, args.clients, args.cache_mb)
        for name, model, wanted in (("plain", "bench", args.requests), ("retrieval", "bench-rag", args.with_retrieval))
        if wanted
    }
    for name, row in results.items():
        print(
            f"{name:<10} {row['requests']:>8} requests, {row['failed']} failed, {row['per_second']:.0f} a second, "
            f"memory {row['warm_mb']:.0f} MB after warm-up, {row['end_mb']:.0f} MB at the end ({row['growth']:+.1%})"
        )
    if args.json:
        args.json.write_text(
            json.dumps({"schema": 1, "command": "soak", "seed": 0, "n": args.requests, "results": results})
        )
    return 0


def soak(model: str, wanted: int, clients: int, cache_mb: float) -> dict[str, Any]:
    """Send so many requests to a fresh server, and return its memory before and after."""
    with ExitStack() as stack:
        home, upstream = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
        cores = sorted(os.sched_getaffinity(0))
        stack.enter_context(process([sys.executable, "-m", "benchmarks.serving.stub", str(upstream)], core=cores[0]))
        wait_for(upstream, "")
        environment, key, port = make(home, upstream), key_with_limits(home), free_port()
        environment["MODELYARD_CACHE_MB"] = str(cache_mb)
        command = [str(Path(sys.executable).with_name("modelyard")), "serve", "--port", str(port)]
        server = stack.enter_context(process(command, core=cores[1 % len(cores)], env=environment))
        wait_for(port, key)
        done = failed = 0
        seconds, warm_mb = 0.0, 0.0
        while done < wanted:
            facts = burst(port, model, key, clients, cores)
            done += facts["requests"]
            failed += facts["not_200"] + facts["broken"]
            seconds += facts["seconds"]
            if not warm_mb and done >= wanted / 10:
                warm_mb = resident_mb(server.pid)
            print(f"{model}: {done} requests, {resident_mb(server.pid):.0f} MB", file=sys.stderr, flush=True)
        end_mb = resident_mb(server.pid)
    return {
        "requests": done,
        "failed": failed,
        "per_second": done / seconds,
        "warm_mb": warm_mb,
        "end_mb": end_mb,
        "growth": end_mb / warm_mb - 1,
    }


def burst(port: int, model: str, key: str, clients: int, cores: list[int]) -> dict[str, Any]:
    """Load the server for some seconds."""
    others = ",".join(map(str, cores[2:] or cores[:1]))
    command = ["taskset", "-c", others, "wrk", "-t2", f"-c{clients}", f"-d{BURST_S}s", "-s", str(HERE / "prompts.lua")]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}", "--", model, key, "whole"], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def resident_mb(pid: int) -> float:
    """Return a process' resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    raise SystemExit(main())

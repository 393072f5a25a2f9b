"""How long `modelyard.load("auto")` takes in a fresh process: `MODELYARD_HOME=.yard python benchmarks/cold_load.py --runs 7`.

Counted from before `import modelyard` to the loaded composite; the start of Python itself is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HEAVY = ("mlflow", "sklearn", "lightgbm", "chromadb", "openai", "pandas")
CHILD = """
import json, sys, time
started = time.perf_counter()
import modelyard
composite = modelyard.load(sys.argv[1])
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "modules": sorted({name.partition(".")[0] for name in sys.modules}),
                  "notices": composite.parts.notices}))
"""


def measure(name: str, home: Path) -> tuple[float, list[str], list[str]]:
    """Load once in a fresh process; return seconds, the heavy modules it imported, and the composite's notices."""
    environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ, "MODELYARD_HOME": str(home)}
    command = [sys.executable, "-c", CHILD, name]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    facts = json.loads(done.stdout)
    return facts["seconds"], [module for module in HEAVY if module in facts["modules"]], facts["notices"]


def main() -> int:
    """Print the median and what was imported; 1 where something heavy was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("MODELYARD_HOME") or ".yard"))
    parser.add_argument("--model", default="auto")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error(f"--runs must be at least 1, but got {arguments.runs}.")
    found = [measure(arguments.model, arguments.home) for _ in range(arguments.runs)]
    seconds = [run[0] for run in found]
    heavy = sorted({module for run in found for module in run[1]})
    print(f"{arguments.model} from {arguments.home}: median {statistics.median(seconds):.2f} s", end=" ")
    print(f"({min(seconds):.2f} to {max(seconds):.2f} s, {len(seconds)} fresh processes)")
    print(f"heavy modules imported: {', '.join(heavy) or 'none'}")
    for notice in found[0][2]:
        print(notice)
    return 1 if heavy else 0


if __name__ == "__main__":
    raise SystemExit(main())

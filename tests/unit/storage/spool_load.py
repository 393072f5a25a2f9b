"""A process that spools without pause, to be killed: `python -m tests.unit.storage.spool_load FOLDER URL NAME [crash]`.

It prints `b ID` once a call is begun and `f ID` once a request is handed over. With `crash` it dies between the database's commit and the
spool's, at the second batch.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from modelyard.storage import Database
from modelyard.storage.spool import Spool
from modelyard.storage.spool_locks import Position
from modelyard.storage.writer import Writer

CREATED = "2026-01-02T03:04:05+00:00"
THREADS = 3


def usage(id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{id}:0", "created_at": CREATED, "message_id": id, "model": "m", "prompt_tokens": 3, "completion_tokens": 4, "cost_usd": 0.5,
        "latency_ms": 7.0, "estimated": False, **more,
    }  # fmt: skip


def orphan(id: str) -> dict[str, Any]:
    return usage(id, kind="orphan", status="orphaned", cost_usd=2.0)


def ended(id: str) -> dict[str, Any]:
    message = {
        "id": id, "created_at": CREATED, "composite": "auto", "prompt": "p", "answer": "a [1]", "model": "m", "domain": "css",
        "complexity": "simple", "status": "complete", "model_metadata": {}, "rag_sources": [{"document": "d"}], "processing_metadata": [],
    }  # fmt: skip
    return {"message": message, "usages": [usage(id)]}


class CrashingSpool(Spool):
    """Dies where the database has a batch and the spool does not know yet."""

    batches = 0

    def store(self, position: Position, requests: int = 0) -> None:
        self.batches += requests > 0
        if self.batches == 2:
            os._exit(1)
        super().store(position, requests)


def work(spool: Spool, name: str) -> None:
    for n in range(1_000_000):
        id = f"{name}-{n:06}"
        spool.begin(id, orphan(id))
        os.write(1, f"b {id}\n".encode())
        if n % 5 != 4:  # the others stay under way
            spool.finish(id, ended(id))
            os.write(1, f"f {id}\n".encode())
        time.sleep(0.001)


if __name__ == "__main__":
    folder, url, name, *crash = sys.argv[1:]
    spool = CrashingSpool(Path(folder)) if crash else Spool(Path(folder))
    writer = Writer(spool, Database(url), every_s=0.02)
    for thread in range(THREADS):
        threading.Thread(target=work, args=(spool, f"{name}{thread}"), daemon=True).start()
    while True:
        time.sleep(60)

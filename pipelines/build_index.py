"""`build-index`: cut documents into passages, build the index, keep the passages in Chroma, and make the index the current one."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

from experiments.report import write_json
from modelyard.retrieval import Index, publish, read_documents
from modelyard.retrieval.store import PassageStore
from modelyard.settings import current

DOCUMENTS: Final = Path(__file__).parents[1] / "eval_sets" / "web_docs" / "docs"  # found from any folder


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--documents", type=Path, default=DOCUMENTS, help="folder of markdown documents (default: web_docs)"
    )
    parser.add_argument("--json", type=Path, help="write the facts here, too")


def run(args: argparse.Namespace) -> int:
    """Build, store, publish and report."""
    settings, start = current(), time.perf_counter()
    index = Index.build(read_documents(args.documents))
    built = time.perf_counter() - start
    with PassageStore(settings) as store:
        stored = store.write(index)
    folder = publish(index, settings)  # last: what serves changes only when everything is written
    facts = {
        "version": index.version,
        "documents": len(index.documents),
        "passages": len(index),
        "stored": stored,
        "embedder": index.lsa.fingerprint,
        "folder": str(folder),
        "build_s": built,
    }
    write_json(args.json, facts)
    print(
        f"Index {index.version}: {facts['documents']} documents, {facts['passages']} passages, "
        f"embedded by {facts['embedder']} in {built:.1f} s; current in {settings.indexes}."
    )
    return 0

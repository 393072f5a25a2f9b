"""`modelyard ask` and `modelyard explain`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelyard.cli.text import Facts, explanation
from modelyard.errors import InvalidInput, InvalidSetting
from modelyard.settings import Settings, current
from modelyard.types import Answer, Message


def configure(commands: Any) -> None:
    """Add both commands to the parser."""
    ask = commands.add_parser("ask", help="answer a prompt and say why the answer is what it is")
    explain = commands.add_parser("explain", help="say where a prompt would go, and why, without answering it")
    for command, run in ((ask, _ask), (explain, _explain)):
        command.add_argument("prompt", metavar="PROMPT", help="the prompt; - reads standard input")
        command.add_argument("--model", default="auto", help="a composite or a base model (default: auto)")
        command.add_argument("--json", type=Path, metavar="PATH", help="write the same facts to a JSON file")
        command.set_defaults(run=run)


def _ask(args: argparse.Namespace) -> int:
    message = Message.of(_prompt(args.prompt))
    answer, stored = asyncio.run(_answered(current(), args.model, message))
    facts = {"id": answer.id, "composite": args.model, "text": answer.text, "stored": stored, **answer.metadata}
    _write(args.json, facts)
    print(f"{answer.text}\n\n{explanation(facts)}")
    return 0


def _explain(args: argparse.Namespace) -> int:
    message = Message.of(_prompt(args.prompt))
    facts = asyncio.run(_explained(current(), args.model, message))
    _write(args.json, facts)
    print(explanation(facts))
    return 0


async def _answered(settings: Settings, name: str, message: Message) -> tuple[Answer, bool]:
    from modelyard.serving.recorder import Recorder
    from modelyard.serving.served import Served

    recorder, models = Recorder(settings.database), Served(settings)
    try:
        model = models.get(name)
        started = time.perf_counter()
        answer = await model.answer(message)
        latency_ms = (time.perf_counter() - started) * 1000
        stored = await asyncio.to_thread(recorder.record, message, answer, composite=model.name, latency_ms=latency_ms)
    finally:
        await models.close()
        recorder.close()
    return answer, stored


async def _explained(settings: Settings, name: str, message: Message) -> Facts:
    """Return the same entries as an answer's metadata, as far as they are known before anything is generated."""
    from modelyard.serving.served import Served

    models = Served(settings)
    try:
        model = models.get(name)
        plan = model.plan(message)
    finally:
        await models.close()
    task = {**asdict(plan.task), "confidence": plan.task.confidence}
    about = {
        "task": task,
        "route": asdict(plan.route),
        "versions": asdict(model.parts.versions),
        "notices": list(model.parts.notices),
    }
    return {
        "composite": name,
        "model_metadata": about,
        "rag_sources": [asdict(passage) for passage in plan.passages],
        "processing_metadata": [asdict(step) for step in plan.steps],
    }


def _prompt(given: str) -> str:
    """Return the prompt, from standard input where it is `-`.

    Raises:
        InvalidInput: It is empty.
    """
    prompt = sys.stdin.read() if given == "-" else given
    if not prompt.strip():
        raise InvalidInput("The prompt is empty.")
    return prompt


def _write(path: Path | None, facts: Facts) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise InvalidSetting(f"Cannot write --json {path}: {error.strerror}.") from None

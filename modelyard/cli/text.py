"""Writes the facts about an answer as aligned text. The same facts go into `--json` files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]
LABEL = 11  # width of the first column
MOST_LABELS = 4  # probabilities shown of one question


def explanation(facts: Facts) -> str:
    """Return the task, the route, the alternatives, the sources and the steps as text.

    Args:
        facts: The entries of `Answer.metadata`; `usage` may be missing where nothing was generated.
    """
    about = facts["model_metadata"]
    sections = {
        "Task": _task(about["task"]),
        "Route": _route(about["route"]),
        "Sources": _sources(facts["rag_sources"]),
        "Steps": _steps(facts["processing_metadata"]),
        "Usage": _usage(about.get("usage")),
        "Versions": [", ".join(f"{part} {version}" for part, version in about["versions"].items() if version)],
        "Notices": about["notices"],
    }
    return "\n".join(line for label, lines in sections.items() for line in _section(label, list(lines)))


def _section(label: str, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{label if number == 0 else '':<{LABEL}}{line}".rstrip()


def _task(task: Facts) -> Iterator[str]:
    yield f"{task['domain']} / {task['complexity']}, about {task['tokens']} tokens, read by {task['classifier']}"
    yield f"domain      {_shares(task['domains'])}"
    yield f"complexity  {_shares(task['complexities'])}"
    yield from _because(task["reasons"])


def _shares(shares: Mapping[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    rest = len(ranked) - MOST_LABELS
    shown = "  ".join(f"{name} {share:.2f}" for name, share in ranked[:MOST_LABELS])
    return shown + (f"  and {rest} more" if rest > 0 else "")


def _route(route: Facts) -> Iterator[str]:
    confidence = "" if route["confidence"] is None else f", confidence {route['confidence']:.2f}"
    yield f"{route['model']}, chosen by {route['policy']}{confidence}, propensity {route['propensity']:.2f}"
    yield from _because(route["reasons"])
    rows = [("", "model", "quality", "cost USD")]
    for candidate in route["candidates"]:
        quality = "not predicted" if candidate["quality"] is None else f"{candidate['quality']:.3f}"
        mark = ">" if candidate["model"] == route["model"] else ""
        rows.append((mark, candidate["model"], quality, f"{candidate['cost_usd']:.6f}"))
    yield from table(rows)


def _because(reasons: Sequence[str]) -> Iterator[str]:
    yield from (f"because {reason}" for reason in reasons)


def _sources(sources: Sequence[Facts]) -> Iterator[str]:
    if not sources:
        yield "none"
    rows = [
        (
            f"[{number}]",
            source["title"],
            f"{source['document']} {source['start']}-{source['end']}",
            f"score {source['score']:.3f}",
            "cited" if source["cited"] else "",
        )
        for number, source in enumerate(sources, start=1)
    ]
    yield from table(rows)


def _steps(steps: Sequence[Facts]) -> Iterator[str]:
    rows = [
        (step["name"], step["status"], f"{step['ms']:.1f} ms", step["reason"], step.get("changed", ""))
        for step in steps
    ]
    yield from table(rows)


def _usage(usage: Facts | None) -> Iterator[str]:
    if usage is not None:
        how = "estimated" if usage["estimated"] else "as the upstream reported"
        tokens = f"{usage['prompt_tokens']} prompt and {usage['completion_tokens']} completion tokens ({how})"
        yield f"{tokens}, USD {usage['cost_usd']:.6f}"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their columns aligned."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True) if width).rstrip()

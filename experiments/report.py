"""The envelope that every evaluation writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from modelyard.errors import InvalidSetting

SCHEMA = 1


def envelope(command: str, *, seed: int, n: int, results: Any, **extra: Any) -> dict[str, Any]:
    """Return `{"schema", "command", "seed", "n", "results"}`, with further facts behind."""
    return {"schema": SCHEMA, "command": command, "seed": seed, "n": n, "results": results, **extra}


def write_json(path: Path | None, content: Any) -> None:
    """Write JSON whole or not at all; nothing where no path was given.

    Raises:
        InvalidSetting: The file cannot be written; what was there before stays.
        ValueError: The content holds a number that JSON has no word for.
    """
    if path is None:
        return
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be written: {error.strerror}.") from None


def show(estimate: dict[str, Any], digits: int = 3) -> str:
    """Return an estimate as a person reads it: `0.687 [0.662, 0.714]`, or `–` where it has no value."""
    if estimate.get("value") is None:
        return "–"
    text = f"{estimate['value']:.{digits}f}"
    if "ci95" in estimate:
        low, high = estimate["ci95"]
        text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return text


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as a person reads it, or `–` where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"

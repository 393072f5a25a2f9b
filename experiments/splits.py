"""Which prompts of an outcome table are kept for the final comparison: by a hash of their ids, the same on every machine and for ever.

Prompts that are near-duplicates of each other should have been removed before; sets of `eval_sets` hold none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from modelyard.errors import InvalidInput
from modelyard.outcomes import OutcomeMatrix

Part = Literal["all", "train", "test"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
TEST_SHARE: Final = 0.4


def part_of(prompt_id: str) -> str:
    """Return `test` for about 40 % of all ids, else `train`."""
    number = int.from_bytes(hashlib.sha256(prompt_id.encode()).digest()[:8], "big")
    return "test" if number < TEST_SHARE * 2**64 else "train"


def rows_in(prompt_ids: Sequence[str], part: str) -> npt.NDArray[np.int64]:
    """Return the positions of the prompts that belong to a part.

    Raises:
        InvalidInput: There is no part of that name.
    """
    if part not in PARTS:
        raise InvalidInput(f"A split must be one of {', '.join(PARTS)}, but got {part!r}.")
    return np.array([i for i, name in enumerate(prompt_ids) if part in ("all", part_of(name))], dtype=np.int64)


def take_part(matrix: OutcomeMatrix, part: Part) -> OutcomeMatrix:
    """Return the prompts of a part, in their order."""
    return matrix.take(rows_in(matrix.prompt_ids, part))


def rows_named(prompt_ids: Sequence[str], path: Path) -> npt.NDArray[np.int64]:
    """Return the positions of the prompts whose ids a file names, one a line.

    Raises:
        InvalidInput: The file cannot be read or names a prompt that is not there.
    """
    try:
        wanted = dict.fromkeys(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"No prompt ids can be read from {path}: {error}.") from None
    place = {name: i for i, name in enumerate(prompt_ids)}
    absent = [name for name in wanted if name not in place]
    if absent:
        raise InvalidInput(f"{path} names the prompt {absent[0]!r}, which not every compared model answered.")
    return np.array([place[name] for name in wanted], dtype=np.int64)

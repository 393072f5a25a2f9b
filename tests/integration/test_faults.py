"""Every upstream fault ends in a whole answer or in one well-formed error, alone and with a model to fall back to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.serving.faults import FAULTS, Fault, Mode, meet
from tests.faults.server import WORDS, fault_server

EACH = pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
MODES = pytest.mark.parametrize("mode", ["whole", "stream"])


@EACH
@MODES
async def test_fault_with_a_fallback(fault: Fault, mode: Mode, tmp_path: Path) -> None:
    async with fault_server(tmp_path) as server:
        outcome = await meet(server, fault, mode, fallback=True)
    expected = fault.whole if mode == "whole" else fault.stream
    assert outcome.ending == expected, outcome
    if expected == "error":
        assert (outcome.kind, outcome.pieces) == (fault.kind, fault.pieces)
    elif mode == "stream":
        assert outcome.pieces == len(WORDS)


@EACH
@MODES
async def test_fault_alone(fault: Fault, mode: Mode, tmp_path: Path) -> None:
    async with fault_server(tmp_path) as server:
        outcome = await meet(server, fault, mode, fallback=False)
        if fault.kind is None:
            assert outcome.ending == "itself", outcome
        else:
            assert outcome.ending == "error", outcome
            kinds = {fault.kind, "garbage"} if fault.name == "cut-3-politely" and mode == "whole" else {fault.kind}
            assert outcome.kind in kinds
            assert outcome.sentence.startswith("The model 'faulty' at ")
            assert outcome.sentence.endswith(".")
            assert "\n" not in outcome.sentence
            assert "Traceback" not in outcome.sentence
            assert "aiohttp" not in outcome.sentence
        for _ in range(100):
            if not server.open:
                break
            await asyncio.sleep(0.01)
        assert server.open == 0, "a connection was left open"

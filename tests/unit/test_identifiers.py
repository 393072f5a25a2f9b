from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from modelyard.identifiers import ordered_hex
from modelyard.types import new_id


def milliseconds(identifier: str) -> int:
    return int(identifier[:12], 16)


def test_identifiers_say_when_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    found = ordered_hex()
    assert before <= milliseconds(found) <= time.time_ns() // 1_000_000
    assert re.fullmatch(r"msg-[0-9a-f]{32}", new_id("msg"))


def test_later_identifiers_come_behind_earlier_ones() -> None:
    made: list[str] = []
    for _ in range(5):
        made.append(new_id("msg"))
        time.sleep(0.002)
    assert made == sorted(made)


def test_threads_get_identifiers_of_their_own() -> None:
    def many(_: int) -> list[str]:
        return [ordered_hex() for _ in range(5_000)]

    with ThreadPoolExecutor(8) as pool:
        made = [found for some in pool.map(many, range(8)) for found in some]
    assert len({found[12:] for found in made}) == len(made) == 40_000  # already by their random ends
    assert len(set(map(len, made))) == 1


def test_forked_processes_get_identifiers_of_their_own() -> None:
    ordered_hex()  # others are drawn already, and must not be given out twice
    reader, writer = os.pipe()
    for _ in range(2):
        child = os.fork()
        if child == 0:
            os.write(writer, "".join(ordered_hex()[12:] for _ in range(100)).encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    os.close(writer)
    with os.fdopen(reader) as file:
        found = file.read()
    ends = [found[at : at + 20] for at in range(0, len(found), 20)]
    ends += [ordered_hex()[12:] for _ in range(100)]
    assert len(set(ends)) == len(ends) == 300

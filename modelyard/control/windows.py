"""A sliding window: at most so much in any 60 seconds, never twice that around a full minute."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW_S: Final = 60
SLOT_S: Final = 2
SLOTS: Final = (
    WINDOW_S // SLOT_S + 1
)  # the slot that the window begins in counts whole: rather two seconds late than too much

Slot = list[int]  # number since the clock's zero, amount


class SlidingWindow:
    """Counts amounts in slots of two seconds.

    What was taken counts for 60 s and until its slot ends: the limit holds in every window of 60 s, wherever it begins.
    """

    __slots__ = ("_slots", "total")

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()
        self.total = 0

    def wait(self, amount: int, limit: int, now: float) -> float:
        """Return the seconds until the amount fits under the limit: 0 is now, infinity never."""
        slots, gone = self._slots, int(now // SLOT_S) - SLOTS
        while slots and slots[0][0] <= gone:
            self.total -= slots.popleft()[1]
        excess = self.total + amount - limit
        if excess <= 0:
            return 0.0
        if amount > limit:
            return math.inf
        for number, held in slots:
            excess -= held
            if excess <= 0:
                return max((number + SLOTS) * SLOT_S - now, 0.001)
        return float(WINDOW_S + SLOT_S)

    def room(self, most: int, least: int, limit: int) -> int:
        """Return what is left under the limit, between the least and the most that is wanted; `wait` must have come before."""
        return max(least, min(most, limit - self.total))

    def take(self, amount: int, now: float) -> Slot:
        """Count an amount, and return the slot that it is in."""
        number, slots = int(now // SLOT_S), self._slots
        if not slots or slots[-1][0] < number:
            slots.append([number, 0])
        slots[-1][1] += amount
        self.total += amount
        return slots[-1]

    def correct(self, slot: Slot, taken: int, actual: int, now: float) -> None:
        """Count what it actually was: more counts from now on, less takes away from what was taken, if that still counts."""
        if actual > taken:
            self.take(actual - taken, now)
        elif slot[0] > int(now // SLOT_S) - SLOTS:
            slot[1] -= taken - actual
            self.total -= taken - actual

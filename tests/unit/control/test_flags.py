from __future__ import annotations

import pytest

from modelyard.control.flags import Flag, FlagRule, Flags
from modelyard.errors import InvalidInput
from modelyard.storage import Database, StorageError
from modelyard.storage.tables import RolloutFlag

UNITS = [f"project-{n}" for n in range(2_000)]


def test_a_flag_is_stored_and_known_at_once_and_elsewhere_after_a_refresh(database: Database):
    here, elsewhere = Flags(database), Flags(database)
    flag = Flag("new-router", "The router of spring.", True, 0.5, (FlagRule("plan", ("free", "trial"), on=False),))
    here.put(flag, by="ada")

    assert here.all() == (flag,)
    assert elsewhere.all() == ()
    elsewhere.refresh()
    assert elsewhere.all() == (flag,)


def test_a_flag_is_replaced_and_removed(sqlite: Database):
    flags = Flags(sqlite)
    flags.put(Flag("a", enabled=True), by="ada")
    flags.put(Flag("a", enabled=False), by="grace")
    assert flags.all() == (Flag("a", enabled=False),)

    flags.remove("a")
    assert flags.all() == ()
    with pytest.raises(InvalidInput, match="No flag is called 'a'"):
        flags.remove("a")


def test_unknown_and_disabled_flags_are_off(sqlite: Database):
    flags = Flags(sqlite)
    flags.put(Flag("off", enabled=False, share=1.0), by="ada")
    assert not flags.is_on("off", "unit")
    assert not flags.is_on("never-heard-of", "unit")


def test_a_share_is_met_and_a_larger_share_only_adds_units():
    few = {unit for unit in UNITS if Flag("a", enabled=True, share=0.2).on_for(unit)}
    more = {unit for unit in UNITS if Flag("a", enabled=True, share=0.5).on_for(unit)}
    assert few < more
    assert 0.17 < len(few) / len(UNITS) < 0.23
    assert 0.46 < len(more) / len(UNITS) < 0.54


def test_flags_place_units_independently():
    one = {unit for unit in UNITS if Flag("a", enabled=True, share=0.5).on_for(unit)}
    two = {unit for unit in UNITS if Flag("b", enabled=True, share=0.5).on_for(unit)}
    assert 0.21 < len(one & two) / len(UNITS) < 0.29


@pytest.mark.parametrize(("share", "on"), [(0.0, 0), (1.0, len(UNITS))])
def test_the_ends_of_the_share_are_nobody_and_everybody(share: float, on: int):
    assert sum(Flag("a", enabled=True, share=share).on_for(unit) for unit in UNITS) == on


def test_the_first_rule_that_fits_decides():
    rules = (FlagRule("plan", ("free",), on=False), FlagRule("country", ("ch", "at")))
    flag = Flag("a", enabled=True, share=0.0, rules=rules)
    assert not flag.on_for("u", {"plan": "free", "country": "ch"})
    assert flag.on_for("u", {"plan": "paid", "country": "ch"})
    assert not flag.on_for("u", {"country": "de"})
    assert not flag.on_for("u")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_lies_within_0_and_1(share: float):
    with pytest.raises(InvalidInput, match="within 0 and 1"):
        Flag("a", share=share)


@pytest.mark.parametrize("name", ["", " ", "x" * 201])
def test_a_flag_needs_a_name(name: str):
    with pytest.raises(InvalidInput, match="name of 1 to 200"):
        Flag(name)


def test_what_was_known_stays_where_a_refresh_fails(sqlite: Database):
    flags = Flags(sqlite)
    flags.put(Flag("a", enabled=True), by="ada")
    with sqlite.write() as session:
        row = session.get(RolloutFlag, "a")
        assert row is not None
        row.rules = [{"attribute": 3}]
    with pytest.raises(InvalidInput, match="stored rules of the flag 'a'"):
        flags.refresh()
    assert flags.is_on("a", "unit")


def test_a_database_that_fails_is_told(sqlite: Database):
    flags = Flags(sqlite)
    RolloutFlag.__table__.drop(sqlite.engine)  # type: ignore[attr-defined]
    with pytest.raises(StorageError):
        flags.refresh()

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from modelyard.errors import CorruptModel, InvalidInput, ModelyardError, PromotionRefused, RegistryError
from modelyard.registry import champions, promotion
from modelyard.registry.champions import champion_folder, check, load_champion
from modelyard.registry.promotion import HistoryEntry, history, promote, rollback
from modelyard.settings import Settings
from tests.unit.registry.yard import MemoryStore, verdict


class Killed(BaseException):
    """Stands for a process that dies."""


def promoted(settings: Settings, *versions: str) -> None:
    for version in versions:
        current = champions.read_current("router", settings)
        before = current.version if current else None
        promote("router", version, who="ada", reason="better", verdict=verdict(version, before), settings=settings)


def rolled_back(settings: Settings) -> str:
    rollback("router", who="bob", reason="complaints", settings=settings)
    return serving(settings)


def serving(settings: Settings) -> str:
    champion = load_champion("router", settings)
    assert champion is not None
    assert champion.artifact.facts == {"version": champion.version}
    return champion.version


def test_nothing_serves_before_the_first_promotion(settings: Settings) -> None:
    assert load_champion("router", settings) is None
    assert check("router", settings).state == "none"


def test_promotion_switches_files_alias_and_history(settings: Settings, store: MemoryStore) -> None:
    promoted(settings, "1", "2")
    assert serving(settings) == "2"
    assert store.alias("router", "champion") == "2"
    second, first = history("router", settings)
    assert (first.move.from_version, first.move.to_version, first.move.action) == (None, "1", "bootstrap")
    assert (second.move.from_version, second.move.to_version, second.move.action) == ("1", "2", "promote")
    assert (second.move.who, second.move.reason) == ("ada", "better")
    assert second.move.run_ids == ("run-of-2", "run-of-the-comparison")
    assert second.move.verdict == verdict("2", "1").to_json() | {"created_at": second.move.verdict["created_at"]}
    assert first.took_effect and second.took_effect
    assert check("router", settings).state == "ok"


def test_refused_promotion_leaves_no_trace(settings: Settings, store: MemoryStore) -> None:
    promoted(settings, "1")
    with pytest.raises(PromotionRefused, match="champion 1 serves now"):
        promote("router", "2", who="ada", reason="hope", verdict=verdict("2", None), settings=settings)
    assert serving(settings) == "1"
    assert len(history(None, settings)) == 1


@pytest.mark.parametrize(("who", "reason", "field"), [("", "better", "who"), ("ada", "  ", "reason")])
def test_every_move_has_a_name_and_a_reason(
    settings: Settings, store: MemoryStore, who: str, reason: str, field: str
) -> None:
    with pytest.raises(PromotionRefused, match=f"{field} must not be empty"):
        promote("router", "1", who=who, reason=reason, verdict=verdict("1", None), settings=settings)


def test_unknown_version_is_refused(settings: Settings, store: MemoryStore) -> None:
    with pytest.raises(RegistryError, match="no version '9'"):
        promote("router", "9", who="ada", reason="better", verdict=verdict("9", None), settings=settings)


def test_unknown_component_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="one of classifier, router, but got 'oracle'"):
        promote("oracle", "1", who="ada", reason="better", verdict=verdict("1", None), settings=settings)


def test_rollback_goes_back_step_by_step_and_then_refuses(settings: Settings, store: MemoryStore) -> None:
    promoted(settings, "1", "2", "3")
    assert rolled_back(settings) == "2"
    assert rolled_back(settings) == "1"
    with pytest.raises(PromotionRefused, match="no version was champion before version 1"):
        rolled_back(settings)
    assert serving(settings) == "1"
    assert store.alias("router", "champion") == "1"
    actions = [entry.move.action for entry in history("router", settings)]
    assert actions == ["rollback", "rollback", "promote", "promote", "bootstrap"]


def test_rollback_never_returns_to_what_was_rolled_back_from(settings: Settings, store: MemoryStore) -> None:
    promoted(settings, "1", "2")
    assert rolled_back(settings) == "1"
    promoted(settings, "3")
    assert rolled_back(settings) == "1"
    promoted(settings, "2", "1")
    assert rolled_back(settings) == "2"
    with pytest.raises(PromotionRefused, match="no version was champion before version 2"):
        rolled_back(settings)


def test_rollback_without_a_champion_is_refused(settings: Settings, store: MemoryStore) -> None:
    with pytest.raises(PromotionRefused, match="nothing was promoted yet"):
        rolled_back(settings)


def test_rollback_needs_only_the_copy_but_fetches_it_again_where_it_is_damaged(
    settings: Settings, store: MemoryStore
) -> None:
    promoted(settings, "1", "2")
    shutil.rmtree(store.path("router", "1"))
    assert rolled_back(settings) == "1"
    promoted(settings, "3")
    (champion_folder("router", "1", settings) / "model.json").write_text("{}")
    store.hashes.pop(("router", "1"))
    store.add("router", "1")
    assert rolled_back(settings) == "1"


@pytest.mark.parametrize("name", ["model.json", "arrays.npz", "manifest.json"])
def test_corrupt_registered_model_is_refused_and_the_champion_still_serves(
    settings: Settings, store: MemoryStore, name: str
) -> None:
    promoted(settings, "1")
    (store.path("router", "2") / name).write_bytes(b"{}")
    with pytest.raises(CorruptModel, match="The registered router 2 is corrupt"):
        promoted(settings, "2")
    assert serving(settings) == "1"
    assert not champion_folder("router", "2", settings).exists()


def test_registered_model_swapped_for_another_whole_one_is_refused(settings: Settings, store: MemoryStore) -> None:
    promoted(settings, "1")
    shutil.rmtree(store.path("router", "2"))
    shutil.copytree(store.path("router", "3"), store.path("router", "2"))
    with pytest.raises(CorruptModel, match="router 2 is not what was registered"):
        promoted(settings, "2")
    assert serving(settings) == "1"


def test_damaged_champion_is_named_when_loaded(settings: Settings, store: MemoryStore) -> None:
    promoted(settings, "1", "2")
    folder = champion_folder("router", "2", settings)
    (folder / "arrays.npz").write_bytes(b"")
    with pytest.raises(CorruptModel, match=r"arrays\.npz does not match its manifest"):
        load_champion("router", settings)
    assert check("router", settings).state == "broken"
    shutil.rmtree(folder)
    shutil.copytree(champion_folder("router", "1", settings), folder)
    with pytest.raises(CorruptModel, match="not the one that was promoted"):
        load_champion("router", settings)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "../1", "sha256": "", "before": [], "moves": []}'])
def test_damaged_pointer_is_named_when_loaded(settings: Settings, store: MemoryStore, text: str) -> None:
    promoted(settings, "1")
    (settings.champions / "router" / "current.json").write_text(text)
    with pytest.raises(CorruptModel, match=r"current\.json does not say which router serves"):
        load_champion("router", settings)


def test_second_mover_waits_and_then_says_so(
    settings: Settings, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "LOCK_TIMEOUT_S", 0.05)
    with (
        promotion.locked("router", settings),
        pytest.raises(RegistryError, match="Another process has been moving the router"),
    ):
        promoted(settings, "1")


STEPS = [
    (MemoryStore, "run_of"),
    (MemoryStore, "sha256"),
    (MemoryStore, "fetch"),
    (champions, "verified_hash"),
    (champions, "install"),
    (champions.shutil, "copytree"),
    (promotion, "record"),
    (MemoryStore, "set_alias"),
    (champions, "write_current"),
    (champions, "_replace"),
    (champions.json, "dump"),
    (champions.os, "fsync"),
    (champions.Path, "replace"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before it worked", "after it worked"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("first", [False, True], ids=["with a champion", "the first of all"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_broken_step_undoes_the_whole_promotion(
    settings: Settings, store: MemoryStore, owner: Any, step: str, first: bool, error: type[BaseException], after: bool
) -> None:
    if not first:
        promoted(settings, "1")
    before = None if first else "1"
    breaking(owner, step, error("boom"), after, lambda: promoted(settings, "2"))
    assert load_champion("router", settings) is None if first else serving(settings) == "1"
    assert store.alias("router", "champion") == before
    assert not champion_folder("router", "2", settings).exists()
    assert [entry.took_effect for entry in history("router", settings) if entry.move.to_version == "2"] in ([], [False])
    assert leftovers(settings) == []
    promoted(settings, "2")
    assert serving(settings) == "2"


@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_process_that_dies_at_any_step_leaves_the_old_champion(
    settings: Settings, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    promoted(settings, "1")
    with monkeypatch.context() as dead:
        dead.setattr(promotion, "_on_failure", lambda *_: None)  # nothing is undone by the dead
        breaking(owner, step, Killed(), False, lambda: promoted(settings, "2"))
    assert serving(settings) == "1"
    promoted(settings, "3")
    assert serving(settings) == "3"
    assert store.alias("router", "champion") == "3"
    assert rolled_back(settings) == "1"
    assert store.alias("router", "champion") == "1"


def test_failure_to_undo_is_told_beside_the_failure(
    settings: Settings, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(settings, "1")

    def down(*_: Any) -> None:
        raise OSError("the registry is down")

    monkeypatch.setattr(MemoryStore, "set_alias", down)
    with pytest.raises(OSError, match="the registry is down") as caught:
        promoted(settings, "2")
    assert caught.value.__notes__ == ["Besides, the alias could not be set back: the registry is down"]
    assert serving(settings) == "1"


def breaking(owner: Any, step: str, error: BaseException, after: bool, action: Callable[[], None]) -> None:
    """Run an action in which the first call of a step raises, before or after it did its work."""
    real, calls = getattr(owner, step), []

    def broken(*args: Any, **options: Any) -> Any:
        calls.append(step)
        if len(calls) > 1:
            return real(*args, **options)
        if after:
            with suppress(ModelyardError):
                real(*args, **options)
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, broken)
        with suppress(type(error)):
            action()
            pytest.fail(f"{step} was never called")
    assert calls


def leftovers(settings: Settings) -> list[str]:
    return [path.name for path in settings.champions.rglob(".*.partial")]


def test_history_of_nothing_is_empty(settings: Settings) -> None:
    assert history("router", settings) == ()
    assert history(None, settings) == ()


def test_history_entry_knows_its_number(settings: Settings, store: MemoryStore) -> None:
    entry = promote("router", "1", who="ada", reason="better", verdict=verdict("1", None), settings=settings)
    assert isinstance(entry, HistoryEntry)
    assert history("router", settings)[0].move.number == entry.move.number == 1

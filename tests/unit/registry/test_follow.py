from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.errors import InvalidInput
from modelyard.predictors import Artifact, write_artifact
from modelyard.registry import champions, promotion
from modelyard.registry.champions import champion_folder, load_champion, read_current
from modelyard.registry.follow import REFUSED_FOR_S, Followed, Follower, follow
from modelyard.registry.mlflow_store import MlflowStore
from modelyard.registry.promotion import history, promote, register, rollback
from modelyard.routing import RouterModel
from modelyard.serving.served import Served
from modelyard.settings import Settings
from modelyard.storage import StorageError
from modelyard.types import Message
from tests.unit.registry.tracking_server import tracking_server
from tests.unit.registry.yard import MemoryStore, verdict
from tests.unit.routing import toy
from tests.unit.serving.champions import crown


@pytest.fixture
def followed(settings: Settings, store: MemoryStore) -> Settings:
    """Version 1 was promoted, and the registry can be looked at."""
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "mlflow.db").touch()
    promote("router", "1", who="ada", reason="better", verdict=verdict("1", None), settings=settings)
    return settings


def serving(settings: Settings) -> str | None:
    champion = load_champion("router", settings)
    assert champion is None or champion.artifact.facts["version"] == champion.version
    return champion.version if champion else None


def test_without_a_registry_nothing_is_followed_and_nothing_is_made(settings: Settings) -> None:
    found = follow("router", settings)
    assert (found.state, found.problem) == ("same", None)
    assert not settings.home.exists()


def test_unknown_component_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="got 'oracle'"):
        follow("oracle", settings)


def test_alias_where_it_should_be_changes_nothing(followed: Settings) -> None:
    before = (followed.champions / "router" / "current.json").stat().st_mtime_ns
    assert follow("router", followed) == Followed("router", "same", "The router is version 1, as in the registry.")
    assert (followed.champions / "router" / "current.json").stat().st_mtime_ns == before
    assert len(history("router", followed)) == 1


def test_moved_alias_is_taken_and_entered_in_the_history(followed: Settings, store: MemoryStore) -> None:
    store.set_alias("router", "champion", "2")
    found = follow("router", followed)
    assert (found.state, found.problem) == ("taken", None)
    assert found.sentence == "The router 2 serves instead of version 1: the alias was moved outside the gate."
    assert serving(followed) == "2"
    assert champion_folder("router", "1", followed).is_dir()
    newest = history("router", followed)[0]
    assert newest.took_effect
    move = newest.move
    assert (move.from_version, move.to_version, move.action, move.who) == ("1", "2", "promote", "registry")
    assert (move.reason, move.run_ids, move.verdict) == (
        "The alias champion was moved in the registry, outside the gate.",
        ("run-of-2",),
        None,
    )
    assert follow("router", followed).state == "same"


def test_first_champion_of_all_can_come_from_the_registry(settings: Settings, store: MemoryStore) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "mlflow.db").touch()
    store.set_alias("router", "champion", "3")
    assert "instead of the defaults" in follow("router", settings).sentence
    assert serving(settings) == "3"
    assert history("router", settings)[0].move.action == "bootstrap"


def test_alias_moved_back_is_a_rollback_and_a_later_rollback_goes_further_back(
    followed: Settings, store: MemoryStore
) -> None:
    for version in ("2", "3"):
        store.set_alias("router", "champion", version)
        assert follow("router", followed).state == "taken"
    store.set_alias("router", "champion", "2")
    assert follow("router", followed).state == "taken"
    assert history("router", followed)[0].move.action == "rollback"
    rollback("router", who="bob", reason="complaints", settings=followed)
    assert serving(followed) == "1"
    assert follow("router", followed).state == "same"


def test_removed_alias_leaves_what_serves(followed: Settings, store: MemoryStore) -> None:
    store.set_alias("router", "champion", None)
    found = follow("router", followed)
    assert (found.state, found.problem) == ("same", None)
    assert found.sentence == "No router is the registry's champion: version 1 stays."
    assert serving(followed) == "1"


def spoilt(path: Path) -> None:
    (path / "model.json").write_text('{"version": "evil"}')


def swapped(path: Path) -> None:
    shutil.rmtree(path)
    write_artifact(path, "router", ({"version": "evil"}, {"weights": np.zeros(2)}))


def emptied(path: Path) -> None:
    for file in path.iterdir():
        file.write_bytes(b"")


def gone(path: Path) -> None:
    shutil.rmtree(path)


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (spoilt, r"The registered router 2 is corrupt: .*model\.json does not match its manifest"),
        (swapped, "The registered router 2 is not what was registered: SHA-256"),
        (emptied, "The registered router 2 is corrupt: .* has no readable manifest.json"),
        (gone, "router 2: .*No such file"),
    ],
)
def test_tampered_version_is_refused_and_the_old_one_stays(
    followed: Settings, store: MemoryStore, tamper: Any, sentence: str
) -> None:
    tamper(store.path("router", "2"))
    store.set_alias("router", "champion", "2")
    before = read_current("router", followed)
    found = follow("router", followed)
    assert (found.state, found.sound) == ("refused", False)
    assert found.sentence.endswith(": version 1 stays.")
    assert re.match(sentence, found.sentence)
    assert read_current("router", followed) == before
    assert serving(followed) == "1"
    assert not champion_folder("router", "2", followed).exists()
    assert len(history("router", followed)) == 1


class Dangerous:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a model was unpickled",)


def test_nothing_is_unpickled(followed: Settings, store: MemoryStore) -> None:
    folder = store.path("router", "2")
    np.savez(folder / "arrays.npz", allow_pickle=True, weights=np.array([Dangerous()], dtype=object))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["arrays.npz"] = _sha256(folder / "arrays.npz")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    store.hashes["router", "2"] = champions.verified_hash("router", folder)
    store.set_alias("router", "champion", "2")
    found = follow("router", followed)
    assert found.state == "refused"
    assert "cannot be read" in found.sentence
    assert serving(followed) == "1"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_version_that_makes_no_working_model_is_refused(followed: Settings, store: MemoryStore) -> None:
    def reader(artifact: Artifact) -> object:
        return artifact.facts["trees"]

    store.set_alias("router", "champion", "2")
    found = follow("router", followed, {"router": reader})
    assert found.problem == "The registered router 2 cannot be loaded: KeyError('trees'): version 1 stays."
    assert serving(followed) == "1"


@pytest.mark.parametrize("version", ["../../1", "", ".hidden", "1/2"])
def test_version_that_names_no_folder_is_refused(followed: Settings, store: MemoryStore, version: str) -> None:
    store.set_alias("router", "champion", version)
    store.hashes["router", version] = store.hashes["router", "2"]
    found = follow("router", followed)
    assert (found.state, found.sound) == ("refused", False)
    assert serving(followed) == "1"


def test_version_without_a_registered_hash_is_refused(followed: Settings, store: MemoryStore) -> None:
    store.hashes["router", "2"] = None  # type: ignore[assignment]
    store.set_alias("router", "champion", "2")
    assert "has no hash: it was not registered by Modelyard: version 1 stays." in follow("router", followed).sentence


def test_refused_version_is_fetched_again_only_after_a_while(followed: Settings, store: MemoryStore) -> None:
    now = 0.0
    follower = Follower(followed, clock=lambda: now)
    good = store.path("router", "2").with_name("good")
    shutil.copytree(store.path("router", "2"), good)
    spoilt(store.path("router", "2"))
    store.set_alias("router", "champion", "2")
    refused = follower.follow("router")
    shutil.rmtree(store.path("router", "2"))
    shutil.copytree(good, store.path("router", "2"))
    assert follower.follow("router") == refused
    now = REFUSED_FOR_S + 1
    assert follower.follow("router").state == "taken"
    store.set_alias("router", "champion", "3")
    assert follower.follow("router").state == "taken"


def test_another_version_is_taken_at_once_after_a_refusal(followed: Settings, store: MemoryStore) -> None:
    follower = Follower(followed)
    spoilt(store.path("router", "2"))
    store.set_alias("router", "champion", "2")
    assert follower.follow("router").state == "refused"
    store.set_alias("router", "champion", "3")
    assert [found.state for found in follower.look()] == ["same", "taken"]


def test_move_that_cannot_be_recorded_is_not_made(
    followed: Settings, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> int:
        raise StorageError("The database does not answer.")

    monkeypatch.setattr(promotion, "record", down)
    store.set_alias("router", "champion", "2")
    found = follow("router", followed)
    assert found.problem == "The database does not answer: version 1 stays."
    assert serving(followed) == "1"
    assert not champion_folder("router", "2", followed).exists()


@pytest.mark.parametrize("step", ["alias", "sha256", "fetch", "run_of"])
def test_registry_that_fails_in_any_way_is_a_sentence(
    followed: Settings, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("http://ada:secret@registry:5000 fell over\nat line 3")

    store.set_alias("router", "champion", "2")
    monkeypatch.setattr(MemoryStore, step, broken)
    found = follow("router", followed)
    assert found.problem == "The model registry does not answer: http://registry:5000 fell over."
    assert serving(followed) == "1"
    assert not champion_folder("router", "2", followed).exists()


def test_several_processes_take_a_version_once(followed: Settings, store: MemoryStore) -> None:
    store.set_alias("router", "champion", "2")
    with ThreadPoolExecutor(4) as pool:  # each look has a lock of its own, as another process would
        states = list(pool.map(lambda _: follow("router", followed).state, range(8)))
    assert sorted(set(states)) == ["same", "taken"]
    assert states.count("taken") == 1
    assert len(history("router", followed)) == 2


def test_damaged_pointer_is_a_sentence(followed: Settings) -> None:
    (followed.champions / "router" / "current.json").write_text("{")
    found = follow("router", followed)
    assert found.problem is not None
    assert "does not say which router serves" in found.problem


async def test_serving_changes_over_without_dropping_what_is_under_way(settings: Settings, tmp_path: Path) -> None:
    for version, best in (("1", "local-sm"), ("2", "local-md")):
        qualities = {"local-sm": 0.1, "local-md": 0.1} | {best: 0.9}
        crown("router", version, toy.router(qualities, cost_weight=0.0).state(), settings)
    store = MemoryStore(tmp_path / "registry")
    for version in ("1", "2"):
        folder = champion_folder("router", version, settings)
        shutil.copytree(folder, store.path("router", version))
        store.hashes["router", version] = champions.verified_hash("router", folder)
    shutil.rmtree(champion_folder("router", "2", settings))
    champions.write_current("router", champions.Current("1", store.hashes["router", "1"]), settings)
    (settings.home / "mlflow.db").touch()
    served = Served(settings)
    before = served.get("auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "open_store", lambda _: store)
        store.set_alias("router", "champion", "2")
        assert follow("router", settings, {"router": RouterModel.from_artifact}).state == "taken"
    under_way = before.plan(Message.of("hi"))
    assert served.refresh()
    assert (await before.answer(Message.of("hi"), under_way)).model == under_way.route.model
    assert served.get("auto") is not before
    assert [model.parts.versions.router for model in (before, served.get("auto"))] == [
        "router-1",
        "router-2",
    ]
    await served.close()


def saved(folder: Path, version: str) -> Path:
    path = folder / f"saved-{version}"
    write_artifact(path, "router", ({"version": version}, {"weights": np.full(3, float(version))}))
    return path


def registered(settings: Settings, folder: Path, *versions: str) -> MlflowStore:
    for version in versions:
        assert register("router", saved(folder, version), run_id=None, settings=settings) == version
    return MlflowStore(settings)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tracking_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri


@pytest.mark.slow
def test_with_mlflows_own_store(settings: Settings, tmp_path: Path) -> None:
    store = registered(settings, tmp_path, "1", "2")
    assert follow("router", settings).state == "same"
    assert not (settings.champions / "router" / "current.json").exists()
    store.set_alias("router", "champion", "1")
    assert follow("router", settings).state == "taken"
    files = sorted(settings.artifacts.rglob("saved-2/arrays.npz"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    store.set_alias("router", "champion", "2")
    found = follow("router", settings)
    assert (found.state, serving(settings)) == ("refused", "1")
    assert "The registered router 2 is corrupt" in found.sentence
    assert follow("classifier", settings).problem is None


@pytest.mark.slow
def test_with_a_tracking_server_over_http(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    settings = Settings(home=tmp_path / "yard", mlflow_uri=server)
    store = registered(settings, tmp_path, "1", "2")
    store.set_alias("router", "champion", "1")
    assert follow("router", settings).state == "taken"
    store.set_alias("router", "champion", "2")
    found = follow("router", settings)
    assert (found.state, serving(settings)) == ("taken", "2")
    assert [entry.move.who for entry in history("router", settings)] == ["registry", "registry"]

    away = settings.model_copy(update={"mlflow_uri": "http://ada:secret@127.0.0.1:9"})
    lost = follow("router", away)
    assert (lost.state, lost.sound) == ("same", False)
    assert lost.sentence.startswith("The model registry does not answer: ")
    assert "secret" not in lost.sentence
    assert serving(away) == "2", "a restart without the registry serves the last good version"

from __future__ import annotations

import logging
import math
import sqlite3
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from modelyard.catalog.manager import ModelManager
from modelyard.catalog.records import Deployment, Price
from modelyard.catalog.rows import CompositeRow, DeploymentRow, ModelRow
from modelyard.errors import InvalidSetting, UnknownModel
from modelyard.storage import Database, StorageError
from modelyard.storage.tables import ModelConfig
from tests.unit.catalog.files import OWN, own

NEW = {"kind": "openai", "base_url": "http://new:1/v1", "input": 1, "output": 2}


@pytest.fixture
def manager(tmp_path: Path, sqlite: Database) -> ModelManager:
    return ModelManager(own(tmp_path), sqlite)


def again(manager: ModelManager, tmp_path: Path, database: Database) -> ModelManager:
    """The catalogue as another process, or this one after a restart, finds it."""
    other = ModelManager(tmp_path / "own.toml", database)
    assert other.catalog == manager.catalog
    return other


def test_without_a_database_changes_last_as_long_as_the_manager(tmp_path: Path) -> None:
    manager = ModelManager(own(tmp_path))
    manager.disable("deployment", "big/east")
    manager.reload()

    assert not manager.catalog.deployment("big/east").enabled
    assert not manager.refresh()
    assert ModelManager(tmp_path / "own.toml").catalog.deployment("big/east").enabled


def test_every_kind_of_change_survives_a_restart(tmp_path: Path, database: Database) -> None:
    manager = ModelManager(own(tmp_path), database)
    manager.register_model("new", NEW)
    manager.register_composite("fresh", {"description": "New.", "candidates": ["new", "gpt"], "fallback": "gpt"})
    manager.update("model", "gpt", {"output": 9, "base_url": "http://elsewhere:1/v1", "api_key_env": "GPT_KEY"})
    manager.update("deployment", "big/west", {"weight": 0.5, "timeout_s": 7})
    manager.update("composite", "mix", {"equal_margin": 0.05, "sticky": "conversation"})
    manager.disable("deployment", "big/east")
    manager.disable("composite", "fresh")
    manager.remove("composite", "auto")

    catalog = again(manager, tmp_path, database).catalog
    assert catalog.model("new").price == Price(1.0, 2.0)
    assert catalog.model("gpt").price == Price(2.0, 9.0)
    assert catalog.deployment("gpt") == Deployment("gpt", "gpt", "http://elsewhere:1/v1", "GPT_KEY")
    west = Deployment("big/west", "big", "http://west:1/v1", weight=0.5, max_concurrent=8, timeout_s=7.0)
    assert catalog.deployment("big/west") == west
    assert not catalog.deployment("big/east").enabled
    assert (catalog.composite("mix").equal_margin, catalog.composite("mix").sticky) == (0.05, "conversation")
    assert not catalog.composite("fresh").enabled
    assert "fresh" not in catalog.offered
    assert "auto" not in catalog.composites


def test_other_processes_see_a_change_when_they_refresh(tmp_path: Path, database: Database) -> None:
    here = ModelManager(own(tmp_path), database)
    there = ModelManager(tmp_path / "own.toml", database)
    assert not there.refresh()
    here.update("model", "gpt", {"input": 5})
    assert there.catalog.price("gpt").input == 2.0

    assert there.refresh()
    assert there.catalog.price("gpt").input == 5.0
    assert not there.refresh()


def test_a_change_is_checked_against_what_other_processes_stored(tmp_path: Path, sqlite: Database) -> None:
    here, there = ModelManager(own(tmp_path), sqlite), ModelManager(tmp_path / "own.toml", sqlite)
    here.disable("model", "gpt")

    with pytest.raises(InvalidSetting, match="composite 'mix' needs a candidate that is switched on"):
        there.disable("model", "big")
    with pytest.raises(InvalidSetting, match="there is a model of that name already"):
        here.register_model("new", NEW)
        there.register_model("new", NEW)


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path, database: Database) -> None:
    path = own(tmp_path)
    managers = [ModelManager(path, database) for _ in range(3)]
    start = threading.Barrier(6)

    def change(i: int) -> None:
        start.wait()
        managers[i % 3].register_model(f"new-{i}", NEW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(6)))

    for manager in managers:
        manager.refresh()
        assert {f"new-{i}" for i in range(6)} <= set(manager.catalog.served)


def test_two_processes_cannot_switch_the_last_candidates_off_between_them(tmp_path: Path, database: Database) -> None:
    path = own(tmp_path)
    managers = [ModelManager(path, database) for _ in range(2)]
    start = threading.Barrier(2)

    def switch_off(i: int) -> bool:
        start.wait()
        try:
            managers[i].disable("model", ("gpt", "big")[i])
        except InvalidSetting:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(switch_off, range(2))) == [False, True]
    assert len(ModelManager(path, database).catalog.composite("mix").candidates) == 1


def test_the_revision_rises_with_every_change_that_takes_effect(manager: ModelManager, tmp_path: Path) -> None:
    seen = [manager.revision]
    manager.disable("model", "gpt")
    seen.append(manager.revision)
    manager.disable("model", "gpt")
    seen.append(manager.revision)
    own(tmp_path, OWN.replace("weight = 3", "weight = 4"))
    assert manager.reload()
    seen.append(manager.revision)
    assert not manager.reload()

    assert seen[0] < seen[1] == seen[2] < seen[3] == manager.revision


def test_a_catalogue_that_somebody_works_with_stays_as_it_was(manager: ModelManager) -> None:
    before = manager.now
    manager.remove("deployment", "big/east")

    assert [deployment.name for deployment in before.catalog.model("big").deployments] == ["big/east", "big/west"]
    assert [deployment.name for deployment in manager.catalog.model("big").deployments] == ["big/west"]
    assert manager.now.revision > before.revision


REFUSED = {
    "registered twice": (
        lambda m: m.register_model("gpt", NEW),
        r"Cannot register the model 'gpt': there is a model of that name already\.",
    ),
    "no kind": (
        lambda m: m.register_model("new", {"base_url": "http://x/v1"}),
        r"Cannot register the model 'new': models\.new: kind is invalid \(Field required\)\.",
    ),
    "unknown field": (
        lambda m: m.register_model("new", {**NEW, "speed": 1}),
        r"models\.new: speed is invalid \(Extra inputs are not permitted\), got 1\.",
    ),
    "bad deployment": (
        lambda m: m.register_model("new", {"kind": "openai", "deployments": {"a": {"base_url": "ftp://x"}}}),
        r"deployments\.a\.base_url is invalid \(a base_url must be an address",
    ),
    "header in a name": (
        lambda m: m.register_model("new\r\nx: y", NEW),
        "the name is invalid .a name must be printable ASCII",
    ),
    "endless name": (lambda m: m.register_model("n" * 121, NEW), "the name is invalid .*at most 120 characters"),
    "empty name": (lambda m: m.register_composite("", {}), "the name is invalid .*at least 1 character"),
    "deployment name taken": (
        lambda m: m.register_model("big/east", NEW),
        "models 'big' and 'big/east' both have a deployment called 'big/east'",
    ),
    "not a number": (
        lambda m: m.update("model", "gpt", {"input": math.nan}),
        r"Cannot change the model 'gpt': the fields must be values that JSON can carry\.",
    ),
    "not JSON": (lambda m: m.update("model", "gpt", {"input": object()}), "values that JSON can carry"),
    "no table": (lambda m: m.update("model", "gpt", ["input"]), "the fields must be a table"),
    "nothing": (lambda m: m.update("model", "gpt", {}), "there is no field to change"),
    "unknown field, null": (
        lambda m: m.update("model", "gpt", {"speed": None}),
        "a model has no field 'speed'; there are .*base_url",
    ),
    "unknown field of a deployment, null": (
        lambda m: m.update("model", "big", {"deployments": {"east": {"speed": None}}}),
        "a deployment has no field 'speed'",
    ),
    "negative price": (
        lambda m: m.update("model", "gpt", {"input": -1}),
        r"Cannot change the model 'gpt': .*own\.toml: models\.gpt: input is invalid .*got -1\.",
    ),
    "text for a number": (lambda m: m.update("model", "gpt", {"input": "2"}), "input is invalid .*got '2'"),
    "no deployment left": (
        lambda m: m.remove("deployment", "gpt"),
        "Cannot remove the deployment 'gpt': .*an openai model needs a base_url",
    ),
    "needed": (
        lambda m: m.remove("model", "big"),
        r"Cannot remove the model 'big': .*composite 'mix' names the model 'big', which no deployment serves\.",
    ),
    "address beside deployments": (
        lambda m: m.update("model", "big", {"base_url": "http://x/v1"}),
        "base_url belongs to each deployment",
    ),
    "unknown candidate": (
        lambda m: m.update("composite", "mix", {"candidates": ["nobody"]}),
        "Cannot change the composite 'mix': .*names the model 'nobody'",
    ),
    "fallback that is none": (
        lambda m: m.update("composite", "mix", {"fallback": "local-md"}),
        "falls back to 'local-md'",
    ),
    "weight zero": (
        lambda m: m.update("deployment", "big/east", {"weight": 0}),
        r"deployments\.east\.weight is invalid",
    ),
    "own settings as a key": (
        lambda m: m.update("deployment", "gpt", {"api_key_env": "MODELYARD_DATABASE_URL"}),
        r"models\.gpt: deployments\.api_key_env is invalid .*must not name one of Modelyard's own settings",
    ),
}


@pytest.mark.parametrize(("ask", "said"), REFUSED.values(), ids=REFUSED)
def test_a_change_that_breaks_a_rule_is_one_sentence_and_changes_nothing(
    manager: ModelManager, sqlite: Database, ask, said: str
) -> None:
    before = manager.now
    with pytest.raises(InvalidSetting, match=said) as caught:
        ask(manager)

    sentence = str(caught.value)
    assert sentence.startswith("Cannot ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ".." not in sentence
    assert manager.now is before
    with sqlite.read() as session:
        assert session.scalars(select(ModelConfig)).all() == []


@pytest.mark.parametrize("kind", ["model", "composite", "deployment"])
@pytest.mark.parametrize("ask", ["update", "enable", "disable", "remove"])
def test_what_is_not_there_is_said(manager: ModelManager, kind: str, ask: str) -> None:
    more = ({"enabled": True},) if ask == "update" else ()
    with pytest.raises(UnknownModel, match="is called 'nobody'"):
        getattr(manager, ask)(kind, "nobody", *more)


def test_a_key_that_stands_where_its_variable_belongs_is_not_repeated(manager: ModelManager) -> None:
    for fields in ({"api_key_env": "sk-secret-1"}, {"base_url": "http://me:sk-secret-1@x/v1"}):
        with pytest.raises(InvalidSetting) as caught:
            manager.update("deployment", "gpt", fields)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [("model", "gpt"), ("deployment", "gpt")])
def test_composites_go_without_what_is_switched_off_and_get_it_back(
    manager: ModelManager, kind: str, name: str
) -> None:
    manager.disable(kind, name)  # type: ignore[arg-type]
    spec = manager.catalog.composite("mix")
    assert (spec.candidates, spec.fallback, spec.left_out) == (("big",), "big", ("gpt",))
    assert "gpt" not in manager.catalog.served
    with pytest.raises(InvalidSetting, match="'mix' needs a candidate that is switched on, but all are off: gpt, big"):
        manager.disable("model", "big")
    manager.enable(kind, name)  # type: ignore[arg-type]

    assert manager.catalog.composite("mix").candidates == ("gpt", "big")


def test_the_last_enabled_deployment_counts_as_its_model(manager: ModelManager) -> None:
    manager.disable("model", "gpt")
    manager.disable("deployment", "big/east")

    with pytest.raises(InvalidSetting, match=r"Cannot switch the deployment 'big/west' off: .*'mix' needs a candidate"):
        manager.disable("deployment", "big/west")
    assert manager.catalog.deployment("big/west").enabled


def test_deployments_come_and_go_by_a_change_of_their_model(
    manager: ModelManager, tmp_path: Path, sqlite: Database
) -> None:
    manager.update("model", "big", {"deployments": {"north": {"base_url": "http://north/v1"}, "east": None}})
    manager.update("model", "gpt", {"deployments": {"spare": {"base_url": "http://spare/v1"}}})
    manager.update("deployment", "gpt/spare", {"weight": 2})
    catalog = again(manager, tmp_path, sqlite).catalog

    assert [deployment.name for deployment in catalog.model("big").deployments] == ["big/west", "big/north"]
    assert [(found.name, found.weight) for found in catalog.model("gpt").deployments] == [
        ("gpt", 1.0),
        ("gpt/spare", 2.0),
    ]
    manager.update("model", "gpt", {"base_url": None})
    assert [deployment.name for deployment in manager.catalog.model("gpt").deployments] == ["gpt/spare"]


def test_null_takes_a_field_back_to_its_default(manager: ModelManager) -> None:
    manager.update("deployment", "big/east", {"weight": None, "timeout_s": 5})
    manager.update("composite", "mix", {"fallbacks": None})
    assert manager.catalog.deployment("big/east").weight == 1.0
    assert manager.catalog.composite("mix").fallbacks == ()
    manager.update("deployment", "big/east", {"timeout_s": None})

    assert manager.catalog.deployment("big/east").timeout_s is None


def test_a_change_of_a_file_comes_through_where_nothing_was_changed(manager: ModelManager, tmp_path: Path) -> None:
    manager.update("model", "gpt", {"input": 5})
    own(tmp_path, OWN.replace("input = 2", "input = 3").replace("output = 8", "output = 7"))
    manager.reload()

    assert manager.catalog.price("gpt") == Price(5.0, 7.0)


def test_reset_takes_changes_back(manager: ModelManager, tmp_path: Path, sqlite: Database) -> None:
    before = manager.catalog
    manager.update("model", "gpt", {"input": 5})
    manager.remove("composite", "mix")
    manager.register_model("new", NEW)
    for kind, name in (("model", "gpt"), ("composite", "mix"), ("model", "new")):
        manager.reset(kind, name)  # type: ignore[arg-type]

    assert manager.catalog == before
    again(manager, tmp_path, sqlite)
    with pytest.raises(UnknownModel, match="'nobody'"):
        manager.reset("model", "nobody")


def test_what_was_removed_can_be_registered_again(manager: ModelManager, tmp_path: Path, sqlite: Database) -> None:
    manager.remove("composite", "mix")
    manager.register_composite("mix", {"description": "Anew.", "candidates": ["gpt"], "fallback": "gpt"})
    manager.update("composite", "mix", {"passages": 9})
    manager.update("composite", "mix", {"passages": None})

    assert again(manager, tmp_path, sqlite).catalog.composite("mix").description == "Anew."
    assert manager.catalog.composite("mix").passages == 4


def test_a_broken_file_leaves_the_old_catalogue(manager: ModelManager, tmp_path: Path) -> None:
    before = manager.now
    for broken in ("models = [", OWN.replace('candidates = ["gpt", "big"]', "candidates = []")):
        own(tmp_path, broken)
        with pytest.raises(InvalidSetting, match=r"own\.toml"):
            manager.reload()
        assert manager.now is before


def test_files_that_do_not_go_with_stored_changes_are_said(
    manager: ModelManager, tmp_path: Path, sqlite: Database
) -> None:
    manager.register_composite("fresh", {"description": "", "candidates": ["big"], "fallback": "big"})
    path = own(tmp_path, OWN[: OWN.index("[models.big]")])

    with pytest.raises(
        InvalidSetting, match="files and the stored changes over them are not valid together: composite 'fr"
    ):
        ModelManager(path, sqlite)


def test_a_change_of_what_the_files_no_longer_have_is_said(
    manager: ModelManager, tmp_path: Path, sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    manager.update("composite", "mix", {"passages": 2})
    path = own(tmp_path, OWN[: OWN.index("[composites.mix]")])
    with caplog.at_level(logging.WARNING):
        found = ModelManager(path, sqlite).catalog

    said = "A stored change of the composite 'mix' has no effect: the catalogue's files no longer have it."
    assert said in found.notices
    assert said in caplog.messages


def test_rows_name_who_changed_what(manager: ModelManager, sqlite: Database) -> None:
    manager.disable("model", "gpt", by="ops\x00" + "x" * 300)
    manager.update("deployment", "big/east", {"weight": 2})

    with sqlite.read() as session:
        rows = {row.name: row for row in session.scalars(select(ModelConfig))}
    assert rows["gpt"].updated_by == "ops" + "x" * 197
    assert (rows["gpt"].kind, rows["gpt"].enabled, rows["gpt"].revision) == ("model", False, 1)
    assert (rows["big"].enabled, rows["big"].revision, rows["big"].updated_by) == (True, 2, "unknown")
    assert rows["big"].body == {"action": "change", "fields": {"deployments": {"east": {"weight": 2}}}}


WORDS = st.sampled_from(
    ["", "east", "north", "gpt", "local-sm", "http://x/v1", "http://[::1", "\x00", "\ud800", "é\n", "tools"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(WORDS | st.sampled_from(sorted(DeploymentRow.model_fields)), inner, max_size=2)
    ),
    max_leaves=5,
)
ENTRIES = st.sampled_from(
    [
        ("model", "gpt", ModelRow),
        ("model", "big", ModelRow),
        ("composite", "mix", CompositeRow),
        ("deployment", "gpt", DeploymentRow),
    ]
)


@settings(max_examples=200, deadline=None)
@given(entry=ENTRIES, data=st.data())
def test_any_change_takes_effect_whole_or_is_refused_in_one_sentence(
    entry: tuple[Any, str, Any], data: st.DataObject
) -> None:
    kind, name, row = entry
    changes = data.draw(st.dictionaries(st.sampled_from([*row.model_fields, "other"]), VALUES, min_size=1, max_size=2))
    with tempfile.TemporaryDirectory() as folder:
        manager = ModelManager(own(Path(folder)))
    before = manager.now
    try:
        manager.update(kind, name, changes)
    except InvalidSetting as error:
        assert manager.now is before
        assert str(error).isprintable()
        assert str(error).startswith("Cannot change")
    else:
        assert manager.catalog.composite("mix").candidates


def test_a_row_that_is_no_change_is_refused(manager: ModelManager, tmp_path: Path, sqlite: Database) -> None:
    manager.disable("model", "gpt")
    with sqlite.write() as session:
        session.scalars(select(ModelConfig)).one().body = {"action": "magic"}

    with pytest.raises(InvalidSetting, match="stored change of the model 'gpt' is not one: its action is unknown"):
        ModelManager(tmp_path / "own.toml", sqlite)


def test_a_database_that_fails_leaves_the_files_to_serve_until_it_is_back(tmp_path: Path, sqlite: Database) -> None:
    path = own(tmp_path)
    ModelManager(path, sqlite).disable("model", "gpt")
    with sqlite.write() as session:
        session.execute(text("ALTER TABLE model_config RENAME TO away"))
    manager = ModelManager(path, sqlite)

    assert "gpt" in manager.catalog.served
    assert "Stored changes of the catalogue cannot be read" in (manager.problem or "")
    with pytest.raises(StorageError):
        manager.refresh()
    with pytest.raises(StorageError):
        manager.disable("model", "big")
    assert "big" in manager.catalog.served
    with sqlite.write() as session:
        session.execute(text("ALTER TABLE away RENAME TO model_config"))
    assert manager.refresh()
    assert "gpt" not in manager.catalog.served
    assert manager.problem is None


def test_a_change_that_cannot_be_stored_does_not_take_effect(tmp_path: Path, sqlite: Database) -> None:
    manager = ModelManager(own(tmp_path), sqlite)
    file = sqlite3.connect(tmp_path / "yard.db")
    file.execute("CREATE TRIGGER full BEFORE INSERT ON model_config BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    file.close()
    before = manager.now

    with pytest.raises(StorageError, match="disk full"):
        manager.disable("model", "gpt")
    assert manager.now is before

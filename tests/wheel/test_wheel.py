"""What is registered here must run in somebody else's application, which has the wheel and packages of its own."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from modelyard.settings import Settings
from tests.wheel.conftest import ROOT, Run

pytestmark = pytest.mark.slow

ASK = "centre a div of width 7 px with flexbox, gap 8 px"


def test_type_checkers_see_the_types(wheel: Path):
    with zipfile.ZipFile(wheel) as packed:
        assert "modelyard/py.typed" in packed.namelist()


def test_wheel_holds_one_import_package_and_all_of_its_data(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name for name in names if name.startswith("modelyard/")}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "modelyard").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"modelyard"}
    assert packed == sources


def test_wheel_carries_the_licence(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    (licence,) = [name for name in archive.namelist() if name.endswith("LICENSE")]

    assert "Apache License" in archive.read(licence).decode()


def test_application_keeps_its_own_packages(elsewhere: Run, application: Path):
    found = elsewhere(
        "import json, sys, modelyard, classifiers, pipelines\n"
        "print(json.dumps({'modelyard': modelyard.__file__, 'path': sys.path,\n"
        "                  'owners': [classifiers.OWNER, pipelines.OWNER]}))"
    )

    assert Path(found["modelyard"]).is_relative_to(application / "vendor")
    assert found["owners"] == ["the application, in classifiers", "the application, in pipelines"]
    assert str(ROOT) not in found["path"]


def test_registered_models_load_through_mlflow(elsewhere: Run, yard: Settings):
    found = elsewhere(
        "import json\n"
        "from modelyard.settings import current\n"  # importing modelyard turns telemetry and pickle off
        "import mlflow\n"
        "mlflow.set_tracking_uri(current().tracking); mlflow.set_registry_uri(current().tracking)\n"
        "classifier = mlflow.pyfunc.load_model('models:/modelyard-classifier@champion')\n"
        "router = mlflow.pyfunc.load_model('models:/modelyard-router@champion')\n"
        f"asked = {{'prompt': [{ASK!r}]}}\n"
        "print(json.dumps({'task': classifier.predict(asked)[0], 'scores': router.predict(asked)[0]}))",
        yard,
    )

    assert found["task"]["domain"] == "css"
    assert found["scores"]["local-md"] > found["scores"]["local-sm"]


def test_composite_answers_with_its_champions(elsewhere: Run, yard: Settings):
    found = elsewhere(
        "import json, sys, modelyard\n"
        f"answer = modelyard.load('auto').ask({ASK!r})\n"
        "print(json.dumps({'text': answer.text, 'metadata': answer.metadata,\n"
        "                  'heavy': [name for name in ('mlflow', 'sklearn', 'lightgbm') if name in sys.modules]}))",
        yard,
    )

    about = found["metadata"]["model_metadata"]
    assert "flexbox" in found["text"].lower()
    assert (about["task"]["domain"], about["route"]["model"]) == ("css", "local-md")
    assert (about["versions"]["classifier"], about["versions"]["router"]) == ("classifier-1", "router-1")
    assert about["notices"] == []
    assert found["heavy"] == []

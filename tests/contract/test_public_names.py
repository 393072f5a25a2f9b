"""The surface that applications import changes only on purpose: whoever changes it changes this file, too."""

import inspect
import subprocess
import sys

import pytest

import modelyard

HEAVY = [
    "mlflow", "sklearn", "lightgbm", "chromadb", "openai", "pandas", "pyarrow.dataset", "streamlit", "optuna", "dspy",
]  # fmt: skip
PUBLIC = ["Settings", "__version__", "load"]


def test_public_names_change_only_on_purpose():
    assert sorted(modelyard.__all__) == sorted(PUBLIC)
    assert all(hasattr(modelyard, name) for name in PUBLIC)


def test_load_takes_a_name_and_settings():
    parameters = inspect.signature(modelyard.load).parameters

    assert {name: parameter.default for name, parameter in parameters.items()} == {"name": "auto", "settings": None}


@pytest.mark.parametrize("module", ["modelyard", "modelyard.serving.loading"])
def test_importing_what_an_application_imports_loads_nothing_heavy(module: str):
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

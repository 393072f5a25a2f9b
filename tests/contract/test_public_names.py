"""The surface that applications import changes only on purpose: whoever changes it changes this file, too."""

import inspect
import subprocess
import sys

import modelyard

PUBLIC = ["Settings", "__version__", "load"]


def test_public_names_change_only_on_purpose():
    assert sorted(modelyard.__all__) == sorted(PUBLIC)
    assert all(hasattr(modelyard, name) for name in PUBLIC)


def test_load_takes_a_name_and_settings():
    parameters = inspect.signature(modelyard.load).parameters

    assert {name: parameter.default for name, parameter in parameters.items()} == {"name": "auto", "settings": None}


def test_importing_modelyard_imports_nothing_heavy():
    heavy = ["mlflow", "sklearn", "lightgbm", "chromadb", "openai", "pandas", "streamlit", "optuna", "dspy"]
    code = f"import sys, modelyard; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_modules_that_load_uses_import_nothing_heavy():
    heavy = ["mlflow", "sklearn", "lightgbm", "chromadb", "openai", "pandas", "pyarrow.dataset"]
    code = f"import sys, modelyard.serving.loading; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

"""Changes of the catalogue and the operator's secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelyard.catalog.manager import ModelManager
from modelyard.errors import InvalidSetting
from tests.unit.catalog.files import OWN, own

NEW = {"kind": "openai", "base_url": "http://new:1/v1", "input": 1, "output": 2}
EVIL = "https://evil.example/v1"


@pytest.fixture
def manager(tmp_path: Path) -> ModelManager:
    return ModelManager(own(tmp_path), key_variables=["*_API_KEY"])


def refused(call: Any) -> str:
    with pytest.raises(InvalidSetting) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("variable", ["PATH", "AWS_SECRET_ACCESS_KEY", "sk_live_1234567890"])
def test_a_variable_that_is_not_meant_for_models_is_refused_and_not_told(manager: ModelManager, variable: str) -> None:
    for call in (
        lambda: manager.register_model("new", NEW | {"api_key_env": variable}),
        lambda: manager.register_model(
            "new", {"kind": "openai", "deployments": {"a": {"base_url": EVIL, "api_key_env": variable}}}
        ),
        lambda: manager.update("model", "gpt", {"api_key_env": variable}),
        lambda: manager.update("deployment", "big/east", {"api_key_env": variable}),
    ):
        said = refused(call)
        assert "(GPT_KEY) or MODELYARD_KEY_VARIABLES allows" in said
        assert variable not in said
    assert manager.revision == 0


def test_variables_of_the_files_and_of_the_setting_may_be_named(manager: ModelManager) -> None:
    manager.register_model("new", NEW | {"api_key_env": "GPT_KEY"})
    manager.register_model("other", NEW | {"api_key_env": "OTHER_API_KEY"})
    assert manager.catalog.deployment("other").api_key_env == "OTHER_API_KEY"


def test_a_variable_does_not_become_the_files_by_being_stored(tmp_path: Path) -> None:
    manager = ModelManager(own(tmp_path), key_variables=["ONCE"])
    manager.register_model("new", NEW | {"api_key_env": "ONCE"})
    manager._guard = ModelManager(own(tmp_path))._guard
    refused(lambda: manager.register_model("other", NEW | {"api_key_env": "ONCE"}))
    manager.update("model", "new", {"input": 3, "max_concurrent": 5})  # what stands already is no reason to refuse


@pytest.mark.parametrize(
    ("kind", "name", "changes"),
    [
        ("model", "gpt", {"base_url": EVIL}),
        ("deployment", "gpt", {"base_url": EVIL}),
        ("model", "gpt", {"deployments": {"": {"base_url": EVIL}}}),
    ],
)
def test_a_new_address_names_its_key_again(manager: ModelManager, kind: Any, name: str, changes: Any) -> None:
    assert "must come with its api_key_env" in refused(lambda: manager.update(kind, name, changes))
    manager.update("deployment", "gpt", {"base_url": EVIL, "api_key_env": None})
    assert manager.catalog.deployment("gpt").api_key_env is None
    manager.reset("model", "gpt")
    manager.update("deployment", "gpt", {"base_url": EVIL, "api_key_env": "GPT_KEY"})
    assert manager.catalog.deployment("gpt").base_url == EVIL
    manager.reset("model", "gpt")
    assert manager.catalog.deployment("gpt").api_key_env == "GPT_KEY"


def test_a_deployment_that_is_taken_away_does_not_leave_its_key_to_the_next(tmp_path: Path) -> None:
    keyed = OWN.replace('base_url = "http://east:1/v1"', 'base_url = "http://east:1/v1"\napi_key_env = "EAST_KEY"')
    manager = ModelManager(own(tmp_path, keyed))
    manager.remove("deployment", "big/east")
    assert "must come with its api_key_env" in refused(
        lambda: manager.update("model", "big", {"deployments": {"east": {"base_url": EVIL}}})
    )


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.1.2:8080", "2852039166", "0xa9fea9fe", "[fe80::1]", "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]", "100.100.100.200",
    ],
)  # fmt: skip
def test_link_local_and_metadata_addresses_are_refused(manager: ModelManager, host: str) -> None:
    said = refused(lambda: manager.register_model("new", NEW | {"base_url": f"http://{host}/v1"}))
    assert "must not be a link-local or metadata address" in said


def test_other_addresses_without_keys_change_as_before(manager: ModelManager) -> None:
    for host in ("127.0.0.1:8080", "10.0.0.8", "gpu-7.internal"):
        manager.update("deployment", "big/east", {"base_url": f"http://{host}/v1"})

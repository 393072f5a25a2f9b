"""Requests made from the APIs' own schemas: none is answered with anything but what the schema says, and none breaks the server."""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from modelyard.storage import Database
from tests.integration.admin_yard import admin_yard
from tests.unit.storage.conftest import sqlite

__all__ = ["sqlite"]

pytestmark = pytest.mark.slow

few = settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("app", ["admin", "analytics"])
def test_no_request_breaks_the_server(tmp_path: Path, sqlite: Database, app: str, mode: GenerationMode):
    with admin_yard(tmp_path, sqlite) as yard:
        schema = schemathesis.openapi.from_url(
            f"{yard.url}/{app}/openapi.json", headers={"Authorization": f"Bearer {yard.key}"}
        )
        for found in schema.get_all_operations():
            strategy = found.ok().as_strategy(generation_mode=mode)

            @given(case=strategy)
            @few
            def ask(case: schemathesis.Case) -> None:
                response = case.call(
                    base_url=f"{yard.url}/{app}", headers={"Authorization": f"Bearer {yard.key}"}, timeout=30
                )
                case.validate_response(response, checks=[not_a_server_error, response_schema_conformance])

            try:
                ask()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE  # nothing can be wrong about a request without parameters

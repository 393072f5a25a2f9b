"""Errors of the admin API: in OpenAI's shape, as everywhere else, each with one sentence."""

from __future__ import annotations

import logging
from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from modelyard.errors import InvalidInput, ModelyardError, PromotionRefused, RegistryError, UnknownModel
from modelyard.serving.problems import BUG, JsonResponse, described, headers_of, on_http_error
from modelyard.serving.wire import error_body
from modelyard.storage.database import StorageError

log = logging.getLogger("modelyard.serving")


class NotFound(InvalidInput):
    """There is nothing of that name or id."""


# What an operator meets besides what every caller does; the first that fits counts.
_ANSWERS: Final[tuple[tuple[type[ModelyardError], int, str, str], ...]] = (
    (UnknownModel, 404, "invalid_request_error", "not_found"),
    (NotFound, 404, "invalid_request_error", "not_found"),
    (PromotionRefused, 409, "invalid_request_error", "promotion_refused"),
    (StorageError, 503, "server_error", "database_unavailable"),
    (RegistryError, 502, "server_error", "registry_failed"),
)


def add_handlers(app: FastAPI) -> None:
    """Make an app answer every error in this shape."""
    app.add_exception_handler(ModelyardError, _on_modelyard_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_modelyard_error(request: Request, error: Exception) -> Response:
    status, body = _described(error)
    if status >= 500:
        log.warning("%s %s failed: %s", request.method, request.url.path, error)
    return JsonResponse(body, status, headers_of(error))


def _described(error: Exception) -> tuple[int, dict[str, Any]]:
    for known, status, kind, code in _ANSWERS:
        if isinstance(error, known):
            return status, error_body(str(error), kind, code=code)
    return described(error)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    """Name the first field that is wrong; its value is left out, since it may be a secret."""
    first: dict[str, Any] = dict(cast("RequestValidationError", error).errors()[0])
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return JsonResponse(
        error_body(f"The field {place!r} is invalid: {first['msg']}.", "invalid_request_error", param=place), 400
    )


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JsonResponse(BUG, 500)

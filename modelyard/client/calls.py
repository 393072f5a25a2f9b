"""One HTTP call of the client: its errors, and its answer as a record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import httpx
import pydantic

from modelyard.errors import ModelyardError

_Parsed = TypeVar("_Parsed")


class ApiError(ModelyardError):
    """The server refused a call, or could not be reached.

    Args:
        message: The server's sentence.
        status: The HTTP status, or None where no response came.
        kind: The error's `type`, such as `permission_error`.
        code: The error's `code`, where it has one.
        param: The field that it is about, where it is about one.
        retry_after_s: When the server wants to be called again, where it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        kind: str = "",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param
        self.retry_after_s = retry_after_s


class Caller:
    """Calls one server.

    Args:
        base_url: The server's address, with or without `/v1`.
        api_key: The key; None where the server asks for none.
        timeout_s: Longest time for one call.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        address = base_url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout_s, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        parse: type[_Parsed],
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> _Parsed:
        """Make one call and read its answer as `parse`.

        Raises:
            ApiError: The server refused, cannot be reached, or answered something else.
        """
        asked = {name: _text(value) for name, value in (params or {}).items() if value is not None}
        try:
            response = self._http.request(method, path, json=body, params=asked)
        except httpx.HTTPError as error:
            raise ApiError(f"The server at {self._http.base_url} cannot be reached: {error}.") from error
        if not response.is_success:
            raise _refused(response)
        try:
            content: object = None if response.status_code == 204 else response.json()
            return pydantic.TypeAdapter(parse).validate_python(content)
        except ValueError as error:
            raise ApiError(f"{method} {path} gave an answer that is not understood.", status=200) from error


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refused(response: httpx.Response) -> ApiError:
    try:
        error: Any = response.json()["error"]
        message, kind = str(error["message"]), str(error["type"])
        code, param = error.get("code"), error.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, kind, code, param = f"The server answered with status {response.status_code}.", "", None, None
    after = response.headers.get("Retry-After", "")
    return ApiError(
        message,
        status=response.status_code,
        kind=kind,
        code=code,
        param=param,
        retry_after_s=float(after) if after.isdecimal() else None,
    )

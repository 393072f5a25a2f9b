"""The bodies of `POST /v1/embeddings` and `POST /v1/moderations`: a model, and inputs that are answered one by one."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import pydantic

from modelyard.serving.wire import bad_request, parse_json
from modelyard.upstream.sharing import estimated_tokens, inputs_of

MOST_INPUTS: Final = 2048  # OpenAI's own limit
MOST_NAME: Final = 200

_Asked = TypeVar("_Asked", bound="InputsRequest")


class InputsRequest(pydantic.BaseModel):
    """What both have in common; what is not named goes to the endpoint as it is."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow")

    model: str | None = pydantic.Field(default=None, min_length=1, max_length=MOST_NAME)
    user: str | None = pydantic.Field(default=None, max_length=MOST_NAME)
    input: Any

    @property
    def tokens(self) -> int:
        """About how many tokens all inputs take."""
        return estimated_tokens(inputs_of({"input": self.input}))


class EmbeddingsRequest(InputsRequest):
    """The body of `POST /v1/embeddings`."""

    model: str = pydantic.Field(min_length=1, max_length=MOST_NAME)  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen)
    input: str | list[str] | list[int] | list[list[int]] = pydantic.Field(union_mode="left_to_right")
    encoding_format: str | None = None
    dimensions: int | None = pydantic.Field(default=None, ge=1)

    @pydantic.field_validator("input")
    @classmethod
    def _something(cls, given: Any) -> Any:
        return _checked(given)


class Part(pydantic.BaseModel):
    """A piece of an input for moderation: a text, or where an image is."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow")

    type: str = pydantic.Field(min_length=1, max_length=40)
    text: str | None = None


class ModerationsRequest(InputsRequest):
    """The body of `POST /v1/moderations`; without a model the catalogue's first one that moderates is meant."""

    input: str | list[str] | list[Part] = pydantic.Field(union_mode="left_to_right")

    @pydantic.field_validator("input")
    @classmethod
    def _something(cls, given: Any) -> Any:
        return _checked(given)

    @property
    def tokens(self) -> int:
        """About how many tokens all inputs take; an image counts as none."""
        given = self.input
        plain = (
            given if isinstance(given, str) else [one if isinstance(one, str) else one.model_dump() for one in given]
        )
        return estimated_tokens(inputs_of({"input": plain}))


def parse_inputs(kind: type[_Asked], body: bytes) -> tuple[_Asked, dict[str, Any]]:
    """Read and check a request's body, and return it with what came.

    Raises:
        BadRequest: It is not JSON, or breaks a rule.
    """
    found = parse_json(body)
    try:
        return kind.model_validate(found), found
    except pydantic.ValidationError as error:
        raise bad_request(error) from None


def _checked(given: Any) -> Any:
    """Return an input that holds something, and not too much.

    Raises:
        ValueError: It does not.
    """
    if not given or (isinstance(given, list) and not all(given if not isinstance(given[0], int) else [1])):
        raise ValueError("input must not be empty")
    if isinstance(given, list) and not isinstance(given[0], int) and len(given) > MOST_INPUTS:
        raise ValueError(f"input must hold at most {MOST_INPUTS} texts, but got {len(given)}")
    return given

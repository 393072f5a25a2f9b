"""`POST /v1/feedback`: what a person says about an answer."""

from __future__ import annotations

import pydantic

from modelyard.serving.wire import bad_request, parse_json


class FeedbackRequest(pydantic.BaseModel):
    """The body: an answer's id, and a rating from 1 (bad) to 5 (good), a correction, a comment, or that the model was wrong."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid")

    message_id: str = pydantic.Field(min_length=1, max_length=80)
    rating: int | None = pydantic.Field(default=None, ge=1, le=5)
    correction: str | None = pydantic.Field(default=None, max_length=100_000)
    comment: str | None = pydantic.Field(default=None, max_length=10_000)
    wrong_model: bool = False
    user: str | None = pydantic.Field(default=None, max_length=200)


def parse_feedback(body: bytes) -> FeedbackRequest:
    """Read and check a request's body.

    Raises:
        BadRequest: It is not JSON, or breaks a rule.
    """
    try:
        return FeedbackRequest.model_validate(parse_json(body))
    except pydantic.ValidationError as error:
        raise bad_request(error) from None

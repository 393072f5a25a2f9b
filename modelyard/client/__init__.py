"""A typed client for what Modelyard has beside the OpenAI wire: explanations, feedback, admin and analytics.

    from modelyard.client import Client, explanation, extras

    with Client("http://127.0.0.1:8000", api_key="my-…") as yard:
        answer = openai_client.chat.completions.create(model="auto", messages=[…], extra_body=extras())
        print(explanation(answer).reasons)
        yard.feedback(answer.id, rating=5)
        yard.admin.disable("deployment", "gpt/east")
        yard.analytics.usage(by="model", bucket="day")

Chat itself is any OpenAI client's; `extras` asks for what Modelyard adds to an answer, and `explanation` reads it. No call is repeated
by itself: an operator's change must not happen twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

import pydantic

from modelyard.client.admin import Admin
from modelyard.client.analytics import Analytics
from modelyard.client.calls import ApiError, Caller
from modelyard.serving.admin import records

__all__ = ["Admin", "Analytics", "ApiError", "Client", "Explanation", "explanation", "extras", "records"]


class Client:
    """Calls one Modelyard server; use it as a context, or close it. Safe to share between threads.

    Args:
        base_url: The server's address, with or without `/v1`.
        api_key: The key; None where the server asks for none.
        timeout_s: Longest time for one call.
    """

    def __init__(self, base_url: str, api_key: str | None = None, *, timeout_s: float = 30.0) -> None:
        self._caller = Caller(base_url, api_key, timeout_s)
        self.admin = Admin(self._caller)
        self.analytics = Analytics(self._caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._caller.close()

    def health(self) -> Mapping[str, Any]:
        """Return what the server says about itself."""
        return self._caller.call("GET", "/health", dict[str, Any])

    def feedback(
        self,
        message_id: str,
        *,
        rating: int | None = None,
        correction: str | None = None,
        wrong_model: bool = False,
        comment: str | None = None,
        user: str | None = None,
    ) -> Mapping[str, Any]:
        """Say something about an answer: a rating from 1 to 5, a better text, or that the wrong model answered.

        Args:
            message_id: The answer's id.
            rating: From 1 (bad) to 5 (good).
            correction: What it should have said.
            wrong_model: Whether another model should have answered.
            comment: Anything else.
            user: The application's own name for who says so.

        Raises:
            ApiError: No such answer is stored, nothing at all was said, or the server refused.
        """
        given = {"rating": rating, "correction": correction, "comment": comment, "user": user}
        body = {name: value for name, value in given.items() if value is not None}
        return self._caller.call(
            "POST", "/v1/feedback", dict[str, Any], body={"message_id": message_id, "wrong_model": wrong_model, **body}
        )


class Explanation(records.Record):
    """Why an answer is what it is: task, route with its reasons and alternatives, versions, usage, sources and steps."""

    model_metadata: dict[str, Any]
    rag_sources: list[dict[str, Any]] = pydantic.Field(default_factory=list[dict[str, Any]])
    processing_metadata: list[dict[str, Any]] = pydantic.Field(default_factory=list[dict[str, Any]])

    @property
    def model(self) -> str:
        """The base model that answered."""
        return str(self.model_metadata["model"])

    @property
    def reasons(self) -> list[str]:
        """Why it was chosen."""
        return [str(reason) for reason in self.model_metadata["route"]["reasons"]]


def extras(*, explain: bool = True, conversation: str | None = None) -> dict[str, Any]:
    """Return what a chat request asks of Modelyard besides: give it to the `openai` client as `extra_body`.

    Args:
        explain: Whether the answer carries what `explanation` reads.
        conversation: The application's own name for the conversation, so that routing can stay with a model.
    """
    asked: dict[str, Any] = {"explain": explain}
    return {"modelyard": asked if conversation is None else asked | {"conversation": conversation}}


def explanation(answer: object) -> Explanation | None:
    """Read what Modelyard adds to a chat completion, or to the last chunk of a stream; None where it holds nothing.

    Args:
        answer: The `openai` client's object, or the JSON object itself.
    """
    found: Any = answer if isinstance(answer, Mapping) else getattr(answer, "model_extra", None) or {}
    added = cast("Mapping[str, Any]", found).get("modelyard")
    return None if added is None else Explanation.model_validate(added)

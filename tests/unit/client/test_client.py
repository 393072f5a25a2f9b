from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelyard.client import ApiError, Client, explanation, extras
from tests.integration.live_server import live_server

EXPLAINED = {
    "model_metadata": {"model": "md", "route": {"reasons": ["it is the cheapest that is good enough"]}},
    "rag_sources": [],
    "processing_metadata": [{"name": "classify"}],
    "stored": True,
}
COMPLETION = {
    "id": "msg-1",
    "object": "chat.completion",
    "created": 1,
    "model": "auto",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}}],
    "modelyard": EXPLAINED,
}


@contextmanager
def serving(path: str, answer: Callable[[Request], Awaitable[Response]], **options: Any) -> Iterator[Client]:
    app = Starlette(routes=[Route(path, answer, methods=["GET", "POST"])])
    with live_server(app) as url, Client(f"{url}/v1", **options) as client:
        yield client


def saying(body: Any, status: int = 200, **headers: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})

    return answer


@pytest.mark.parametrize("answer", [COMPLETION, ChatCompletion.model_validate(COMPLETION)])
def test_an_answer_explains_itself(answer: object):
    found = explanation(answer)
    assert found is not None
    assert (found.model, found.reasons) == ("md", ["it is the cheapest that is good enough"])
    assert found.processing_metadata == [{"name": "classify"}]


@pytest.mark.parametrize("answer", [{}, {"modelyard": None}, object(), None])
def test_other_answers_explain_nothing(answer: object):
    assert explanation(answer) is None


def test_extras_ask_for_an_explanation_and_name_the_conversation():
    assert extras() == {"modelyard": {"explain": True}}
    assert extras(explain=False, conversation="c-1") == {"modelyard": {"explain": False, "conversation": "c-1"}}


def test_feedback_goes_with_the_key_and_what_was_said():
    received: list[Any] = []

    async def answer(request: Request) -> Response:
        received.append((request.headers["authorization"], json.loads(await request.body())))
        return JSONResponse({"id": 1})

    with serving("/v1/feedback", answer, api_key="my-key") as client:
        assert client.feedback("msg-1", rating=5, comment="Good.") == {"id": 1}
    assert received == [
        ("Bearer my-key", {"message_id": "msg-1", "wrong_model": False, "rating": 5, "comment": "Good."})
    ]


def test_a_refusal_carries_what_the_server_said():
    error = {"message": "Too fast.", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    with (
        serving("/health", saying({"error": error}, 429, Retry_After="7")) as client,
        pytest.raises(ApiError, match=r"Too fast\.") as caught,
    ):
        client.health()
    assert (caught.value.status, caught.value.kind, caught.value.code) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize("body", [None, [], {"error": "text"}, {"detail": "no"}, "page"])
def test_a_refusal_in_another_shape_says_its_status(body: Any):
    with serving("/health", saying(body, 502)) as client, pytest.raises(ApiError, match="status 502") as caught:
        client.health()
    assert caught.value.status == 502


@pytest.mark.parametrize("body", [[], "text", 3, None])
def test_an_answer_of_another_kind_is_an_error(body: Any):
    with serving("/health", saying(body)) as client, pytest.raises(ApiError, match="not understood"):
        client.health()


def test_redirects_are_not_followed_with_a_key():
    async def answer(_: Request) -> Response:
        return Response(status_code=307, headers={"Location": "https://elsewhere.example/health"})

    with serving("/health", answer, api_key="my-key") as client, pytest.raises(ApiError) as caught:
        client.health()
    assert caught.value.status == 307

"""The whole way over TCP: the openai client, uvicorn with uvloop, the app."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from modelyard.errors import UpstreamError
from modelyard.serving.app import create_app
from modelyard.settings import Settings
from modelyard.types import Answer, Message
from tests.integration.live_server import live_server
from tests.unit.serving.yard import Scripted, Yard

ASK = [{"role": "user", "content": "How do I centre a div?"}]


@pytest.fixture
def yard() -> Yard:
    return Yard(Scripted("auto"), Scripted("broken", failure=UpstreamError("The model 'gpt' broke.", status=500)))


@pytest.fixture
def client(settings: Settings, yard: Yard) -> Iterator[openai.OpenAI]:
    with (
        live_server(create_app(settings, yard)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_openai_client_gets_an_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=ASK)
    assert answer.choices[0].message.content == "Use flexbox ☂."
    assert answer.usage.total_tokens == 14
    assert answer.modelyard["model_metadata"]["route"]["model"] == "local-md"


def test_openai_client_reads_the_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=ASK)
    assert raw.headers["x-modelyard-model"] == "local-md"
    assert raw.parse().choices[0].finish_reason == "stop"


def test_openai_client_reads_a_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Use flexbox ☂."
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage.total_tokens == 14


def test_unknown_model_raises_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_bad_request_raises(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        client.chat.completions.create(model="auto", messages=ASK, n=2)


def test_upstream_failure_raises(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="The model 'gpt' broke") as caught:
        client.chat.completions.create(model="broken", messages=ASK)
    assert caught.value.status_code == 502


def test_stream_that_breaks_off_raises_after_its_pieces(client: openai.OpenAI) -> None:
    received = []
    with pytest.raises(openai.APIError, match="The model 'gpt' broke"):
        for chunk in client.chat.completions.create(model="broken", messages=ASK, stream=True):
            received.append(chunk.choices[0].delta.content)
    assert "".join(received) == "Use flexbox ☂."


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "broken"]


class Endless(Scripted):
    """Talks until nobody listens."""

    stopped = threading.Event()

    async def stream(self, message: Message) -> AsyncIterator[str | Answer]:
        try:
            while True:
                yield "more "
                await asyncio.sleep(0)
        finally:
            self.stopped.set()


def test_caller_who_leaves_stops_the_generation(client: openai.OpenAI, yard: Yard) -> None:
    yard.models["endless"] = Endless("endless")
    stream = client.chat.completions.create(model="endless", messages=ASK, stream=True)
    assert next(stream).choices[0].delta.role == "assistant"
    stream.close()
    assert Endless.stopped.wait(10)

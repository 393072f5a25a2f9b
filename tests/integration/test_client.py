"""The typed client against the whole server, and the openai client beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import openai
import pytest

from modelyard.client import ApiError, Client, explanation, extras
from modelyard.serving.app import create_app
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.settings import Settings
from tests.integration.live_server import live_server

ASK = [{"role": "user", "content": "How do I centre a div?"}]


@dataclass
class Running:
    url: str
    parts: ServerParts

    def openai(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def running(settings: Settings) -> Iterator[Running]:
    parts = open_parts(settings.model_copy(update={"auth": "keys"}))
    with live_server(create_app(parts)) as url:
        yield Running(url, parts)


def test_an_operator_lets_an_application_in_and_sees_what_it_did(running: Running):
    _, operator = running.parts.keyring.create("ops", "operator", ["admin"])
    with Client(running.url, operator) as yard:
        made = yard.admin.create_key("shop", "checkout", ["chat", "feedback"])
        with running.openai(made.key) as chat, Client(running.url, made.key) as shop:
            answer = chat.chat.completions.create(model="auto", messages=ASK, user="kim", extra_body=extras())
            found = explanation(answer)
            assert found is not None
            assert found.reasons
            assert shop.feedback(answer.id, rating=4, user="kim")["message_id"] == answer.id
            with pytest.raises(ApiError) as refused:
                shop.admin.models()
            assert refused.value.status == 403

            running.parts.writer.flush(10)
            (used,) = yard.analytics.usage(by="project", only={"project": made.project_id})
            assert used.requests == 1
            assert yard.admin.delete_user("kim")["message"] == 1

            yard.admin.revoke_key(made.id)
            with pytest.raises(openai.AuthenticationError):
                chat.chat.completions.create(model="auto", messages=ASK)


def test_a_key_is_held_to_its_quota(running: Running):
    _, operator = running.parts.keyring.create("ops", "operator", ["admin"])
    with Client(running.url, operator) as yard:
        made = yard.admin.create_key("shop", "checkout", ["chat"])
        yard.admin.set_quota("key", made.id, requests_per_minute=1)
        with running.openai(made.key) as chat:
            chat.chat.completions.create(model="auto", messages=ASK)
            with pytest.raises(openai.RateLimitError):
                chat.chat.completions.create(model="auto", messages=ASK)

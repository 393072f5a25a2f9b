from __future__ import annotations

from datetime import UTC, datetime

import pytest

from modelyard.errors import FaultKind
from modelyard.upstream import Endpoint
from modelyard.upstream.faults import classify, retry_after


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "retryable"),
    [
        (400, "", "unknown field", "rejected", False),
        (422, "", "unknown field", "rejected", False),
        (401, "", "", "auth", False),
        (402, "", "", "auth", False),
        (403, "", "", "auth", False),
        (404, "", "", "not_found", False),
        (408, "", "", "timeout", True),
        (429, "", "slow down", "rate_limit", True),
        (429, "insufficient_quota", "", "rate_limit", False),
        (500, "", "", "server", True),
        (502, "", "", "server", True),
        (503, "", "", "server", True),
        (504, "", "", "server", True),
        (301, "", "", "not_found", False),
        (204, "", "", "garbage", False),
        (400, "context_length_exceeded", "", "context_length", False),
        (400, "", "This model's maximum context length is 8192 tokens.", "context_length", False),
        (400, "", "prompt is too long: 210000 tokens > 200000 maximum", "context_length", False),
        (400, "", "the request exceeds the available context size, try increasing it", "context_length", False),
        (400, "content_policy_violation", "", "content_policy", False),
        (400, "content_filter", "The response was filtered", "content_policy", False),
        (403, "", "Your input was flagged by moderation", "content_policy", False),
    ],
)
def test_kinds(status: int, code: str, message: str, kind: FaultKind, retryable: bool) -> None:
    assert classify(status, code, message, None) == (kind, retryable)


def test_unavailable_with_a_time_to_come_back_is_a_rate_limit() -> None:
    assert classify(503, "", "", 2.0) == ("rate_limit", True)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("٣", None),
        ("1e999", None),
        ("1x", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    assert retry_after(header, now=NOW) == seconds


@pytest.mark.parametrize(("milliseconds", "seconds"), [("250", 0.25), ("soon", 3.0), ("", 3.0), ("9" * 30, 3.0)])
def test_retry_after_in_milliseconds_is_finer(milliseconds: str, seconds: float) -> None:
    assert retry_after("3", milliseconds) == seconds


def test_reported_error_carries_the_status_it_names() -> None:
    endpoint = Endpoint("gpt", "http://[::1]:1/v1", "m")
    error = endpoint.reported({"code": 429, "message": "slow\n down"})
    assert (error.kind, error.status, error.retryable) == ("rate_limit", 429, True)
    assert str(error) == "The model 'gpt' at ::1 reported an error."
    assert error.in_full == "The model 'gpt' at ::1 reported an error: slow down."
    assert endpoint.reported({"type": "rate_limit_error"}).kind == "rate_limit"
    assert endpoint.reported(["?"]).kind == "server"


def test_address_that_is_none_is_still_a_sentence() -> None:
    assert str(Endpoint("gpt", "http://[::1", "m").error("failed")) == "The model 'gpt' at no host failed."

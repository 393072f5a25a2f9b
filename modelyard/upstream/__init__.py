"""HTTP clients for base models: the OpenAI wire, pooled, with retries."""

from modelyard.upstream.client import Retries, Upstream
from modelyard.upstream.endpoint import Endpoint
from modelyard.upstream.wire import Completion

__all__ = ["Completion", "Endpoint", "Retries", "Upstream"]

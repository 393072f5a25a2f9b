"""HTTP clients for base models: the OpenAI wire, pooled; and what is known of each deployment's health."""

from modelyard.upstream.breaker import CircuitBreaker
from modelyard.upstream.client import Retries, Upstream
from modelyard.upstream.endpoint import Endpoint
from modelyard.upstream.state import DeploymentState, DeploymentStates
from modelyard.upstream.timing import Timeouts
from modelyard.upstream.wire import Completion

__all__ = [
    "CircuitBreaker",
    "Completion",
    "DeploymentState",
    "DeploymentStates",
    "Endpoint",
    "Retries",
    "Timeouts",
    "Upstream",
]

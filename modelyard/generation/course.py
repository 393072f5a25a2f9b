"""What is called next: retries on the same model, then the next one, as the last fault and the time allow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from modelyard.catalog import BaseModel
from modelyard.errors import UpstreamError
from modelyard.routing.router import ModelRouter, Order, Target
from modelyard.types import Attempt
from modelyard.upstream import Retries


@dataclass(slots=True)
class Trail:
    """What happened on the way to an answer; filled in as it happens, and whole even where the caller leaves.

    Attributes:
        attempts: Every call, in order.
        reasons: Why models that were to be tried first were not, a sentence each.
        calling: The model that is called now, or was last.
    """

    attempts: list[Attempt] = field(default_factory=list[Attempt])
    reasons: list[str] = field(default_factory=list[str])
    calling: str = ""


class Course:
    """Says for one answer which deployment is called next.

        connect, cut, garbage, server   another deployment of the model at once, else the same one after a wait, then the next model
        rate_limit                      the same; Retry-After is waited for where that is short
        timeout                         another deployment, then the next model
        auth, not_found                 the same: this deployment will not do for this answer
        content_policy                  the next model
        context_length                  the next model with a larger window
        rejected                        nothing: the same call fails everywhere

    Args:
        router: Picks deployments.
        order: The models to try.
        retries: How often and how soon.
        deadline: Loop time by which the answer must begin.
        trail: Where models that are passed over are noted.
        draw: A random number in 0..1.
    """

    def __init__(
        self,
        router: ModelRouter,
        order: Order,
        retries: Retries,
        deadline: float,
        trail: Trail,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._router, self._retries, self._deadline, self._trail, self._draw = router, retries, deadline, trail, draw
        self._models = list(order.models)
        self._calls = self._calls_of_model = 0
        self._unfit: set[str] = set()  # deployments that will not do for this answer
        self._failed: set[str] = set()  # deployments that may do later
        self._error: UpstreamError | None = None
        self._waited = False
        self.why = "first choice"

    async def next(self) -> Target:
        """Return the next deployment to call, waiting first where that is sensible.

        Raises:
            UpstreamError: Nothing more is to be tried: the last error, or kind `unavailable` where nothing was called.
        """
        all_models = tuple(self._models)
        while self._models and self._calls < self._retries.most and self._left_s() > 0.0:
            model = self._models[0]
            if self._calls_of_model < self._retries.attempts:
                target = self._router.pick(model, self._unfit | self._failed if self._failed else self._unfit)
                if target is None and self._failed and await self._wait_for(model):
                    target = self._router.pick(model, self._unfit)
                if target is not None:
                    self._calls += 1
                    self._calls_of_model += 1
                    return target
                if not self._calls_of_model:
                    self._trail.reasons.append(f"{model.name} cannot be called now")
            self._pass_on()
        if self._calls == 0 and not self._waited and await self._wait_for_any(all_models):
            self._models = list(all_models)
            return await self.next()
        raise self._end(all_models)

    def failed(self, target: Target, error: UpstreamError) -> None:
        """Take in that a call failed, before its first token."""
        self._error = error
        self.why = f"after {error.kind} at {target.deployment.name}"
        match error.kind:
            case "rejected":
                self._models = []
            case "content_policy":
                self._pass_on()
            case "context_length":
                window = target.model.context_window
                self._models = [model for model in self._models if model.context_window > window]
                self._calls_of_model = 0
            case "timeout" if error.status is None:  # it took all its time once
                self._unfit.add(target.deployment.name)
            case _:
                (self._failed if error.retryable else self._unfit).add(target.deployment.name)

    def _pass_on(self) -> None:
        self._models = self._models[1:]
        self._calls_of_model = 0
        self._failed.clear()

    def _left_s(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    async def _wait_for(self, model: BaseModel) -> bool:
        """Wait until a deployment that failed may be called again; False where that takes too long."""
        retries = self._retries
        ready_s = self._router.wait_s(model, self._unfit)
        if ready_s is None:
            return False
        upper = min(retries.wait_initial_s * 2.0 ** (self._calls_of_model - 1), retries.wait_max_s)
        wait_s = max(ready_s, self._draw() * upper)
        longest = min(retries.wait_max_s, retries.grace_s) if len(self._models) > 1 else retries.wait_max_s
        if ready_s > longest or wait_s >= self._left_s():
            return False
        await asyncio.sleep(wait_s)
        self._failed.clear()
        return True

    async def _wait_for_any(self, models: tuple[BaseModel, ...]) -> bool:
        """Wait, once and briefly, where every deployment rests."""
        self._waited = True
        ready = [wait_s for model in models if (wait_s := self._router.wait_s(model)) is not None]
        wait_s = min(ready, default=0.0)
        if not 0.0 < wait_s <= self._retries.grace_s or wait_s >= self._left_s():
            return False
        await asyncio.sleep(wait_s * (1.0 + 0.2 * self._draw()))
        return True

    def _end(self, models: tuple[BaseModel, ...]) -> UpstreamError:
        error = self._error
        if error is None:
            names = ", ".join(model.name for model in models) or "none"
            after_s = self._router.retry_after_s(models)
            error = UpstreamError(
                f"No deployment can be called now (models: {names}): each is disabled, failing, resting or full.",
                kind="unavailable",
                retryable=after_s is not None,
                retry_after_s=after_s,
            )
        error.attempts = tuple(self._trail.attempts)
        return error

"""What operators see of the deployments: Prometheus metrics, log lines, and events for Celery's monitors.

Labels are names of routing.yaml, and words of Fairlane's own: nothing that a tenant or a provider writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.errors import ProviderError
from worker.routing_file import Deployment

STATES = {"closed": 0, "half_open": 1, "open": 2}
SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 240.0)
WAITED_FOR = "rate_limited"  # the cool-down that needs nobody
NAMES = ("provider", "deployment")
logger = logging.getLogger(__name__)


class DeploymentSignals:
    """One worker's. `event` sends one to Celery's monitors."""

    def __init__(self, registry: CollectorRegistry, event: Callable[[str, dict[str, object]], None]) -> None:
        def of(metric: type[Any], name: str, what: str, *labels: str, **more: Any) -> Any:
            name = f"fairlane_deployment_{name}"
            return metric(name, what, [*NAMES, *labels], registry=registry, **more)

        self._event = event
        self._calls = of(Counter, "calls", "Calls that this worker has made, by how they ended", "outcome")
        self._429s = of(Counter, "429s", "Calls of this worker that were answered 429, whatever for")
        self._refused = of(Counter, "refused", "Calls that were not made, because it takes none now", "why")
        self._cools = of(Counter, "cool_downs", "Cool-downs that this worker's calls began", "kind")
        self._turns = of(Counter, "breaker_turns", "How often this worker's calls turned the breaker", "to")
        self._seconds = of(Histogram, "call_seconds", "How long calls took", buckets=SECONDS)
        self._state = of(Gauge, "breaker_state", "The fleet's breaker: 0 closed, 1 half-open, 2 open")
        self._in_flight = of(Gauge, "in_flight", "The fleet's calls under way")
        self._limit = of(Gauge, "limit", "Calls at once that it takes; none where no limit is known")
        self._paused = Gauge(
            "fairlane_paused", "1 while an operator has stopped new calls", ["scope"], registry=registry
        )
        self._pauses: dict[str, str] = {}

    def ended(self, deployment: Deployment, error: BaseException | None, *, took_s: float) -> None:
        """A call has ended: answered, or with this error."""
        names = _names(deployment)
        self._calls.labels(*names, _outcome(error)).inc()
        self._seconds.labels(*names).observe(took_s)
        if isinstance(error, ProviderError) and error.status == 429:
            self._429s.labels(*names).inc()

    def refused(self, deployment: Deployment, *, why: str) -> None:
        """A call was not made."""
        self._refused.labels(*_names(deployment), why).inc()

    def cooled(self, deployment: Deployment, *, kind: str, left_s: float, why: str) -> None:
        """Nobody calls it for so long; but for a rate limit, somebody must see to it."""
        self._cools.labels(*_names(deployment), kind).inc()
        if kind == WAITED_FOR:
            return
        logger.warning("%s: not called for %.0f s, %s: %s", deployment.name, left_s, kind, why)
        self._tell("fairlane-deployment-cooled", deployment, kind=kind, for_s=round(left_s, 1), why=why)

    def turned(self, deployment: Deployment, *, to: str, open_s: float, why: str) -> None:
        """Its breaker has opened or closed."""
        self._turns.labels(*_names(deployment), to).inc()
        if to == "opened":
            logger.warning("%s: breaker opened for %.0f s: %s", deployment.name, open_s, why)
            self._tell("fairlane-breaker-opened", deployment, open_s=round(open_s, 1), why=why)
        else:
            logger.warning("%s: breaker closed, it answers again", deployment.name)
            self._tell("fairlane-breaker-closed", deployment)

    def stands(self, deployment: Deployment, *, state: str, in_flight: int, limit: int | None) -> None:
        """How it stands for the whole fleet."""
        names = _names(deployment)
        self._state.labels(*names).set(STATES[state])
        self._in_flight.labels(*names).set(in_flight)
        self._limit.labels(*names).set(float("nan") if limit is None else limit)

    def forget(self) -> None:
        """Deployments may be gone: only those that are told of again are shown."""
        for gauge in (self._state, self._in_flight, self._limit):
            gauge.clear()

    def paused(self, pauses: Mapping[str, str]) -> None:
        """Every scope that is paused now; what has changed since the last time is told."""
        for scope, reason in pauses.items():
            if scope not in self._pauses:
                logger.warning("new calls are paused (%s)", scope)
                self._paused.labels(scope).set(1)
                self._event("fairlane-calls-paused", {"scope": scope, "reason": reason})
        for scope in self._pauses.keys() - pauses.keys():
            logger.warning("new calls go on (%s)", scope)
            self._paused.labels(scope).set(0)
            self._event("fairlane-calls-resumed", {"scope": scope})
        self._pauses = dict(pauses)

    def _tell(self, name: str, deployment: Deployment, **fields: object) -> None:
        provider, own = _names(deployment)
        self._event(name, {"provider": provider, "deployment": own, **fields})


def _names(deployment: Deployment) -> tuple[str, str]:
    return deployment.provider.name, deployment.name


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "answered"
    return str(error.kind) if isinstance(error, ProviderError) else "interrupted"

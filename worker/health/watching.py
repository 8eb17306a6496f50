"""Who watches the deployments' health from outside: what is told of each call and of each view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from worker.health.rules import Outcome, Standing, View
from worker.routing_file import Deployment

BreakerState = Literal["closed", "half_open", "open"]


class Watch(Protocol):
    """Is told of each deployment's calls, and of how all of them stand; nothing waits for it."""

    def ended(self, deployment: Deployment, error: BaseException | None, *, took_s: float) -> None:
        """A call has ended: answered, or with this error."""
        ...

    def refused(self, deployment: Deployment, *, why: str) -> None:
        """A call was not made: paused, a cool-down's kind, open, probing or full."""
        ...

    def cooled(self, deployment: Deployment, *, kind: str, left_s: float, why: str) -> None:
        """It, or its whole provider, is not called for so long."""
        ...

    def turned(self, deployment: Deployment, *, to: str, open_s: float, why: str) -> None:
        """Its breaker has "opened" or "closed", by this worker's call."""
        ...

    def stands(
        self, deployment: Deployment, *, state: BreakerState, in_flight: int, limit: int | None
    ) -> None:
        """How it stands for the whole fleet."""
        ...

    def paused(self, pauses: Mapping[str, str]) -> None:
        """Every scope that is paused now, with its reason."""
        ...


class Unwatched:
    """Nobody watches."""

    def ended(self, deployment: Deployment, error: BaseException | None, *, took_s: float) -> None:
        """Nothing."""

    def refused(self, deployment: Deployment, *, why: str) -> None:
        """Nothing."""

    def cooled(self, deployment: Deployment, *, kind: str, left_s: float, why: str) -> None:
        """Nothing."""

    def turned(self, deployment: Deployment, *, to: str, open_s: float, why: str) -> None:
        """Nothing."""

    def stands(
        self, deployment: Deployment, *, state: BreakerState, in_flight: int, limit: int | None
    ) -> None:
        """Nothing."""

    def paused(self, pauses: Mapping[str, str]) -> None:
        """Nothing."""


def breaker_state(standing: Standing) -> BreakerState:
    """The breaker's state in one word."""
    if standing.open_s is None:
        return "closed"
    return "open" if standing.open_s > 0 else "half_open"


def tell_view(watch: Watch, view: View, deployments: Iterable[Deployment]) -> None:
    """How everything stands."""
    for one in deployments:
        standing = view.deployments.get(one.name, Standing())
        watch.stands(one, state=breaker_state(standing), in_flight=standing.in_flight, limit=standing.limit)
    watch.paused({pause.scope: pause.reason for pause in view.pauses})


def tell_end(
    watch: Watch, deployment: Deployment, error: BaseException | None, outcome: Outcome, *, took_s: float
) -> None:
    """How one call ended, and for how long its deployment cools down by it."""
    watch.ended(deployment, error, took_s=took_s)
    if outcome.cool:
        watch.cooled(deployment, kind=outcome.cool.kind, left_s=outcome.cool.left_s, why=outcome.cool.why)

"""Deployments' health in Redis: the scripts' typed face, and a view of all that is a second old at most.

Keys lie under one hash tag and expire, but for `pauses`, which lasts until it is resumed. Nothing here stops a call
because Redis does not answer: a deployment counts as healthy then, and only the pauses last seen still hold.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio
import redis.exceptions

from producer_sdk.contract import Crossing, Straight
from worker.health.rules import CoolDown, Outcome, Pause, Standing, Took, View, with_own
from worker.health.watching import Unwatched, Watch, tell_view
from worker.routing_file import Deployment, Tenant
from worker.speed import STALE_S, Speed

T = TypeVar("T")
Arguments = list[str | int]

VIEW_S = 1.0
PATIENCE_S = 1.0  # for Redis
MOST_A_BEAT = 500
LIFE_MS = 86_400_000  # of a deployment's key since its last call
HALF_WINDOW_MS = 15_000
LEAST_CALLS = 5
FAILED_SHARE = 500  # thousandths
FAILED_IN_A_ROW = 5
FIRST_OPEN_MS, LONGEST_OPEN_MS = 5_000, 120_000
LEAST_PACED_TOKENS = 16  # shorter answers do not tell how long a token takes
OF_A_KEY = ("auth", "quota_exhausted")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begun:
    """A call may be made since `at_ms`; or why not (`refused`), and the seconds until it may be asked again."""

    at_ms: int = 0
    refused: str = ""
    wait_s: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Turned:
    """What a call's end has made of its deployment's breaker: "opened", "closed" or "" (nothing)."""

    to: str = ""
    open_s: float = 0.0
    why: str = ""


@dataclass
class _Sight:
    """What was seen last, and when, on the monotonic clock; `missed`: when nothing was seen."""

    view: View = field(default_factory=View)
    seen: float = float("-inf")
    missed: float = float("-inf")
    looking: asyncio.Task[None] | None = None


class HealthStore:
    """Every deployment's pauses, cool-downs, breaker and calls under way, the same for the whole fleet."""

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        *,
        namespace: str = "fairlane",
        lease_s: float = 45.0,
        crossing: Crossing | None = None,
        watch: Watch | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """A slot lasts `lease_s` after its worker's last beat; `watch` is told of every view.

        `now_ms` replaces the server's clock, in tests only.
        """
        self._redis = redis
        self._root = f"{namespace}:{{health}}:"
        self._crossing = crossing or Straight()
        self._watch = watch or Unwatched()
        self._now_ms = now_ms
        folder = Path(__file__).parent
        self._lease_ms = int(lease_s * 1000)
        self._held: dict[str, str] = {}  # attempt -> where its slot is
        begin, finish, beat, look, pause, measure = (
            (folder / f"{verb}.lua").read_text()
            for verb in ("begin", "finish", "beat", "look", "pause", "measure")
        )
        self._begin, self._finish, self._beat, self._look, self._pause = (
            redis.register_script(script) for script in (begin, measure + finish, beat, look, pause)
        )
        self._sights: dict[str, _Sight] = {}  # by tenant with a key of its own; "": the fleet's keys

    async def begin(self, deployment: Deployment, *, attempt: str, forced: bool, whose: str = "") -> Begun:
        """Take a slot for this attempt, once; `forced` passes an open breaker and a spent credit, nothing else.

        `whose`: the tenant with whose own key it is called. A key's troubles are those of its calls alone.
        """
        keys = [*self._keys(deployment, whose), self._root + "pauses"]
        args: Arguments = [
            attempt,
            self._lease_ms,
            deployment.provider.name,
            int(forced),
            LIFE_MS,
            self._now(),
            deployment.concurrency or "",
        ]
        reply = await self._asked("begin", lambda: self._begin(keys=keys, args=args))
        if reply is None:
            return Begun()
        refused, wait_ms, at_ms, why = reply
        if not refused:
            self._held[attempt] = keys[1]
        return Begun(int(at_ms), refused.decode(), int(wait_ms) / 1000, _text(why))

    async def finish(
        self,
        deployment: Deployment,
        outcome: Outcome,
        *,
        attempt: str,
        begun: Begun,
        jitter: float,
        took: Took | None = None,
        whose: str = "",
    ) -> Turned:
        """Free the attempt's slot and learn from its outcome and from how long it `took`, once.

        `jitter` is from 0 to 1.
        """
        self._held.pop(attempt, None)
        cool = outcome.cool or CoolDown(0.0, "", "")
        call: Arguments = [attempt, begun.at_ms, outcome.verdict, int(outcome.too_much)]
        cools: Arguments = [int(cool.left_s * 1000), cool.kind, cool.why, int(outcome.whole_provider)]
        breaker = [HALF_WINDOW_MS, LEAST_CALLS, FAILED_SHARE, FAILED_IN_A_ROW, FIRST_OPEN_MS, LONGEST_OPEN_MS]
        args: Arguments = [*call, *cools, int(800 + 400 * jitter), LIFE_MS, *breaker, self._now()]
        args += _said(took)
        keys = self._keys(deployment, whose)
        reply = await self._asked("finish", lambda: self._finish(keys=keys, args=args))
        if reply is None:
            return Turned()
        to, open_ms, why = reply
        return Turned(to.decode(), int(open_ms) / 1000, _text(why))

    async def beat(self) -> None:
        """This process still makes its calls: their slots last for another lease."""
        of_key: dict[str, list[str]] = {}
        for attempt, key in self._held.items():
            of_key.setdefault(key, []).append(attempt)
        for key, attempts in of_key.items():
            for at in range(0, len(attempts), MOST_A_BEAT):
                args: Arguments = [self._lease_ms, self._now(), *attempts[at : at + MOST_A_BEAT]]
                await self._asked("beat", lambda key=key, args=args: self._beat(keys=[key], args=args))  # type: ignore[misc]

    async def view(
        self, deployments: Callable[[], Mapping[str, Deployment]], *, whose: str = ""
    ) -> tuple[View, float]:
        """How all stand, and how many seconds ago that was; Redis is asked once a second, whoever asks."""
        sight = self._sights.setdefault(whose, _Sight())
        if time.monotonic() - max(sight.seen, sight.missed) > VIEW_S:
            if sight.looking is None or sight.looking.done():
                sight.looking = asyncio.create_task(
                    self._refresh(sight, tuple(deployments().values()), whose)
                )
            await asyncio.shield(sight.looking)
        return sight.view, max(0.0, time.monotonic() - sight.seen)

    async def view_of(
        self, tenant: Tenant, deployments: Callable[[], Mapping[str, Deployment]]
    ) -> tuple[View, float]:
        """As this tenant's calls find it: those with a key of its own by what such calls have met."""
        view, age_s = await self.view(deployments)
        if not tenant.keys:
            return view, age_s
        own, own_age_s = await self.view(
            lambda: {name: one for name, one in deployments().items() if one.provider.name in tenant.keys},
            whose=tenant.name,
        )
        return with_own(view, own, tenant.keys), max(age_s, own_age_s)

    async def speeds(
        self, tenant: Tenant, deployments: Callable[[], Mapping[str, Deployment]]
    ) -> Mapping[str, Speed]:
        """How fast those are for this tenant that have answered, by the same view."""
        return (await self.view_of(tenant, deployments))[0].speeds

    async def _refresh(self, sight: _Sight, deployments: Sequence[Deployment], whose: str) -> None:
        asked = time.monotonic()
        seen = await self._asked("look", lambda: self.look(deployments, whose=whose))
        if seen is None:
            sight.missed = time.monotonic()
        sight.view = View(pauses=sight.view.pauses) if seen is None else seen
        sight.seen = asked
        if seen is not None and not whose:
            tell_view(self._watch, seen, deployments)

    async def look(self, deployments: Sequence[Deployment], *, whose: str = "") -> View:
        """How these stand now, for calls with the fleet's keys or with this tenant's own. Raises RedisError."""
        providers = tuple({one.provider.name: None for one in deployments})
        keys = [self._root + "pauses"]
        for one in deployments:
            keys += self._keys(one, whose)[:2]
        keys += [self._provider(name, whose) for name in providers]
        args: Arguments = [len(deployments), self._now()]
        now_ms, pauses, rows, cooling = await self._look(keys=keys, args=args)
        cools = (_cool(row, now_ms) for row in cooling)
        return View(
            {one.name: _standing(row, now_ms) for one, row in zip(deployments, rows, strict=True)},
            {name: cool for name, cool in zip(providers, cools, strict=True) if cool},
            _pauses(pauses, now_ms),
        )

    async def forgive(self, deployments: Sequence[Deployment], *, whose: str = "") -> None:
        """What a key that has been replaced had met is over: a refusal, a spent quota."""
        await self._asked("forgive", lambda: self._forgive(deployments, whose))
        self._sights.pop(whose, None)

    async def _forgive(self, deployments: Sequence[Deployment], whose: str) -> None:
        for key in {key for one in deployments for key in self._keys(one, whose)[::2]}:
            if _text(await self._redis.hget(key, "cool_kind")) in OF_A_KEY:
                await self._redis.hdel(key, "cool_until", "cool_kind", "cool_why")

    async def pause(self, scope: str, *, for_ms: int = 0, reason: str = "") -> int:
        """Stop new calls of a scope; returns until when (ms), 0: until it is resumed. Raises RedisError."""
        args: Arguments = [scope, for_ms, reason, self._now()]
        return int(await self._pause(keys=[self._root + "pauses"], args=args))

    async def resume(self, scope: str) -> bool:
        """Let the scope be called again; whether it was paused. Raises RedisError."""
        return bool(await self._redis.hdel(self._root + "pauses", scope))

    async def _asked(self, verb: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        return await self._answered(verb, lambda: self._crossing.cross(f"redis:health_{verb}", ask))

    async def _answered(self, verb: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer, or None when Redis gives none in time: health is advice, no call waits for it."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await ask()
        except (redis.exceptions.RedisError, TimeoutError, OSError) as error:
            logger.warning("health was not asked or told (%s: %s)", verb, type(error).__name__)
            return None

    def _keys(self, deployment: Deployment, whose: str) -> list[str]:
        own = f"{self._root}{_of(whose)}deployment:{deployment.name}"
        return [own, own + ":calls", self._provider(deployment.provider.name, whose)]

    def _provider(self, name: str, whose: str) -> str:
        return f"{self._root}{_of(whose)}provider:{name}"

    def _now(self) -> int | str:
        return self._now_ms() if self._now_ms else ""


def _of(whose: str) -> str:
    """Tenants' names have no colon in them."""
    return f"own:{whose}:" if whose else ""


def _text(raw: Any) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else ""


def _cool(row: Sequence[Any], now_ms: int) -> CoolDown | None:
    left_ms = int(row[0] or 0) - now_ms
    return CoolDown(left_ms / 1000, _text(row[1]), _text(row[2])) if left_ms > 0 else None


def _standing(row: Sequence[Any], now_ms: int) -> Standing:
    return Standing(
        cool=_cool(row, now_ms),
        open_s=None if row[3] is None else max(0, int(row[3]) - now_ms) / 1000,
        open_why=_text(row[4]),
        is_probed=bool(row[6]),
        in_flight=int(row[7]),
        limit=None if row[5] is None else int(row[5]) // 1000,
        speed=_speed(row[8:14], now_ms),
    )


def _speed(row: Sequence[Any], now_ms: int) -> Speed | None:
    answers, first_us, rated, token_us, output_mt, measured = (int(value or 0) for value in row)
    if not answers:
        return None
    token_ms = token_us / 1000 if rated else None
    return Speed(answers, first_us / 1000, token_ms, output_mt / 1000, max(0, now_ms - measured) / 1000)


def _said(took: Took | None) -> Arguments:
    """An answer's times as the script takes them."""
    if took is None:
        return ["", 0, 0, 0, LEAST_PACED_TOKENS, int(STALE_S * 1000)]
    times: Arguments = [took.first_ms, int(took.is_silent), took.output_tokens, took.output_ms]
    return [*times, LEAST_PACED_TOKENS, int(STALE_S * 1000)]


def _pauses(raw: Sequence[bytes], now_ms: int) -> tuple[Pause, ...]:
    found = []
    for scope, value in zip(raw[::2], raw[1::2], strict=True):
        until, since, reason = value.split(b" ", 2)
        left_s = (int(until) - now_ms) / 1000 if int(until) else None
        if left_s is None or left_s > 0:
            found.append(Pause(_text(scope), left_s, max(0, now_ms - int(since)) / 1000, _text(reason)))
    return tuple(found)

"""The health scripts against a model of the breaker and of the calls at once, driven by Hypothesis."""

from __future__ import annotations

import asyncio
import math
import uuid
from dataclasses import dataclass, field

import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import Valkey
from tests.worker.job_runs import deployment
from worker.health import store
from worker.health.rules import Outcome
from worker.health.store import Begun, HealthStore

START_MS = 1_763_000_000_000
A = deployment("a")
LEASE_MS = 45_000


@dataclass
class Model:
    """What the scripts do, said once more: one deployment, jitter of nothing."""

    slots: dict[str, int] = field(default_factory=dict)  # attempt -> until when
    ended: list[tuple[int, bool]] = field(default_factory=list)  # half window, whether it failed
    row: int = 0
    open_until: int | None = None
    opened: int = 0
    probe: str | None = None
    limit: int | None = None  # thousandths
    cut: int = 0

    def begin(self, attempt: str, now: int, *, forced: bool) -> str:
        self.slots = {one: until for one, until in self.slots.items() if until > now}
        tried = self.probe in self.slots
        if self.open_until is not None and not forced:
            if self.open_until > now:
                return "open"
            if tried:
                return "probing"
        if self.limit is not None and len(self.slots) >= self.limit // 1000:
            return "full"
        if self.open_until is not None and not tried:
            self.probe = attempt
        self.slots[attempt] = now + LEASE_MS
        return ""

    def finish(self, attempt: str, began: int, outcome: Outcome, now: int) -> None:
        under_way = len(self.slots)
        if self.slots.pop(attempt, None) is None:
            return
        if outcome.too_much and began > self.cut:
            self.limit, self.cut = max(1000, math.floor((self.limit or under_way * 1000) * 0.7)), now
        elif outcome.verdict == "ok" and self.limit and under_way * 2000 >= self.limit:
            self.limit = math.floor(self.limit + 1_000_000 / self.limit)
        if self.open_until is not None:
            if self.probe == attempt:
                self.probe = None
                if outcome.verdict == "ok":
                    self.open_until, self.opened = None, 0
                elif outcome.verdict == "bad" and self.open_until <= now:
                    self.open(now)
        elif outcome.verdict:
            self.count(now // store.HALF_WINDOW_MS, failed=outcome.verdict == "bad", now=now)

    def count(self, half: int, *, failed: bool, now: int) -> None:
        self.ended = [one for one in self.ended if half - 1 <= one[0] <= half] + [(half, failed)]
        self.row = self.row + 1 if failed else 0
        bad = sum(failed for _half, failed in self.ended)
        is_half = len(self.ended) >= store.LEAST_CALLS and 2 * bad >= len(self.ended)
        if self.row >= store.FAILED_IN_A_ROW or (failed and is_half):
            self.open(now)

    def open(self, now: int) -> None:
        ms = min(store.LONGEST_OPEN_MS, store.FIRST_OPEN_MS * 2**self.opened) * 8 // 10
        self.open_until, self.opened, self.probe = now + ms, self.opened + 1, None
        self.ended, self.row = [], 0


OUTCOMES = (
    Outcome("ok"),
    Outcome("bad"),
    Outcome("bad", too_much=True),
    Outcome(too_much=True),
    Outcome(),
)
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 1, 40, 3_000, 16_000, 100_000]),
        st.none() | st.none() | st.tuples(st.integers(0, 9), st.sampled_from(OUTCOMES)),
        st.sampled_from([False, False, True]),
    ),
    min_size=30,
    max_size=60,
)


@settings(max_examples=40)
@given(steps=steps)
def test_the_scripts_do_what_the_model_does(valkey: Valkey, steps) -> None:
    asyncio.run(in_lockstep(valkey, steps))


async def in_lockstep(valkey: Valkey, steps) -> None:
    now, model, begun = START_MS, Model(), dict[str, Begun]()
    async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
        health = HealthStore(client, namespace=f"m{uuid.uuid4().hex}", now_ms=lambda: now)
        for number, (passed_ms, ends, forced) in enumerate(steps):
            now += passed_ms
            if ends is None:
                attempt = f"a{number}"
                reply = await health.begin(A, attempt=attempt, forced=forced)
                assert reply.refused == model.begin(attempt, now, forced=forced)
                if not reply.refused:
                    begun[attempt] = reply
            elif begun:
                attempt = list(begun)[ends[0] % len(begun)]
                was = begun.pop(attempt)
                await health.finish(A, ends[1], attempt=attempt, begun=was, jitter=0.0)
                model.finish(attempt, was.at_ms, ends[1], now)
            found = (await health.look([A])).deployments[A.name]
            assert found.limit == (None if model.limit is None else model.limit // 1000)
            open_s = None if model.open_until is None else max(0, model.open_until - now) / 1000
            assert found.open_s == open_s
            assert found.in_flight == sum(until > now for until in model.slots.values())

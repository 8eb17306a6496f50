"""Health of deployments on a real Valkey: breakers, cool-downs, limits of calls at once, and pauses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
import redis.asyncio

from tests.servers import Valkey
from tests.worker.job_runs import CLOUD, deployment
from worker.health import store
from worker.health.rules import CoolDown, Outcome, Standing
from worker.health.store import Begun, HealthStore, Turned

START_MS = 1_763_000_000_000
A, B, C = deployment("a"), deployment("b"), deployment("c", provider=CLOUD)
OK, BAD, NEUTRAL = Outcome("ok"), Outcome("bad"), Outcome()
TOO_MUCH = Outcome(too_much=True)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(client: redis.asyncio.Redis, namespace: str, clock: Clock) -> HealthStore:
    return HealthStore(client, namespace=namespace, now_ms=clock)


class Caller:
    """One process' calls of a deployment."""

    def __init__(self, health: HealthStore, at=A) -> None:
        self.health = health
        self.at = at
        self.under_way: dict[str, Begun] = {}

    async def begin(self, *, forced: bool = False) -> str:
        """The attempt, or why there is none."""
        attempt = uuid4().hex
        begun = await self.health.begin(self.at, attempt=attempt, forced=forced)
        if begun.refused:
            return begun.refused
        self.under_way[attempt] = begun
        return attempt

    async def finish(self, attempt: str, outcome: Outcome, jitter: float = 0.5) -> Turned:
        begun = self.under_way[attempt]
        return await self.health.finish(self.at, outcome, attempt=attempt, begun=begun, jitter=jitter)

    async def call(self, outcome: Outcome, **how) -> Turned | str:
        attempt = await self.begin(**how)
        return await self.finish(attempt, outcome) if attempt in self.under_way else attempt

    async def standing(self) -> Standing:
        return (await self.health.look([self.at])).deployments[self.at.name]


@pytest.fixture
def caller(health: HealthStore) -> Caller:
    return Caller(health)


async def test_a_deployment_nobody_called_is_healthy(health: HealthStore):
    view = await health.look([A, C])
    assert view.deployments == {A.name: Standing(), C.name: Standing()}
    assert (view.providers, view.pauses) == ({}, ())


async def test_five_failures_in_a_row_open_the_breaker(caller: Caller):
    for _ in range(4):
        assert await caller.call(BAD) == Turned()
    assert await caller.call(BAD) == Turned("opened", 5.0, "5 calls in a row failed")
    assert await caller.call(OK) == "open"
    assert (await caller.standing()).open_s == 5.0


async def test_half_of_the_calls_of_a_window_open_the_breaker_and_fewer_or_older_do_not(
    caller: Caller, clock: Clock
):
    for outcome in (OK, BAD, OK, BAD, OK, OK, OK, BAD):
        assert await caller.call(outcome) == Turned()
    for _ in range(2):
        assert await caller.call(OK) == Turned()
    clock.ms += 2 * store.HALF_WINDOW_MS
    for outcome in (OK, BAD, OK, BAD):
        assert await caller.call(outcome) == Turned()
    clock.ms += store.HALF_WINDOW_MS
    assert await caller.call(BAD) == Turned("opened", 5.0, "3 of 5 calls failed")


async def test_a_success_ends_a_row_of_failures(caller: Caller, clock: Clock):
    for outcome in (BAD, BAD, BAD, BAD, OK, BAD):
        clock.ms += 2 * store.HALF_WINDOW_MS  # each in a window of its own
        assert await caller.call(outcome) == Turned()


async def test_what_is_nobodys_fault_counts_nothing(caller: Caller):
    for _ in range(20):
        assert await caller.call(NEUTRAL) == Turned()
    assert await caller.standing() == Standing()


async def broken(caller: Caller) -> None:
    for _ in range(5):
        await caller.call(BAD)


async def test_half_open_lets_one_call_through_and_its_success_closes_the_breaker(
    caller: Caller, clock: Clock
):
    await broken(caller)
    clock.ms += 5_000
    probe = await caller.begin()
    assert probe in caller.under_way
    assert [await caller.begin() for _ in range(3)] == ["probing"] * 3
    assert (await caller.standing()).is_probed
    assert await caller.finish(probe, OK) == Turned("closed")
    assert await caller.call(OK) == Turned()
    assert await caller.standing() == Standing()


async def test_each_failed_probe_doubles_the_open_time_up_to_its_cap(caller: Caller, clock: Clock):
    await broken(caller)
    opened_s = []
    for _ in range(6):
        clock.ms += 130_000
        turned = await caller.call(BAD)
        opened_s.append(turned.open_s)
    assert opened_s == [10.0, 20.0, 40.0, 80.0, 120.0, 120.0]
    clock.ms += 130_000
    await caller.call(OK)
    await broken(caller)
    assert (await caller.standing()).open_s == 5.0, "it begins anew"


@pytest.mark.parametrize(("jitter", "open_s"), [(0.0, 4.0), (1.0, 6.0)])
async def test_the_open_time_is_jittered_by_a_fifth(caller: Caller, jitter, open_s):
    for _ in range(4):
        await caller.call(BAD)
    assert (await caller.finish(await caller.begin(), BAD, jitter)).open_s == open_s


async def test_a_probe_whose_worker_died_or_that_says_nothing_leaves_the_place_to_another(
    caller: Caller, clock: Clock
):
    await broken(caller)
    clock.ms += 5_000
    assert await caller.begin() in caller.under_way
    clock.ms += 45_000
    assert await caller.call(NEUTRAL) == Turned()
    assert await caller.call(OK) == Turned("closed")


async def test_calls_that_began_before_it_opened_decide_nothing(caller: Caller):
    old = [await caller.begin() for _ in range(3)]
    await broken(caller)
    for attempt, outcome in zip(old, (OK, BAD, NEUTRAL), strict=True):
        assert await caller.finish(attempt, outcome) == Turned()
    assert (await caller.standing()).open_s == 5.0


async def test_the_last_one_is_called_though_it_is_open_and_the_first_answer_closes_it(caller: Caller):
    await broken(caller)
    assert await caller.call(BAD, forced=True) == Turned(), "no longer open for it"
    assert (await caller.standing()).open_s == 5.0
    first, second = [await caller.begin(forced=True) for _ in range(2)]
    assert await caller.finish(second, OK) == Turned(), "one call at a time decides"
    assert await caller.finish(first, OK) == Turned("closed")


def cooled(seconds: float, kind: str = "rate_limited") -> CoolDown:
    return CoolDown(seconds, kind, "429")


async def test_a_cool_down_holds_until_its_time_and_is_never_shortened(caller: Caller, clock: Clock):
    first, second = await caller.begin(), await caller.begin()
    await caller.finish(first, Outcome(cool=cooled(12)))
    await caller.finish(second, Outcome(cool=cooled(3)))
    assert (await caller.standing()).cool == cooled(12)
    begun = await caller.health.begin(A, attempt="x", forced=True)
    assert begun == Begun(START_MS, "rate_limited", 12.0, "429"), "not even the last one is asked"
    clock.ms += 12_000
    assert await caller.call(OK) == Turned()


async def test_a_spent_quota_cools_every_deployment_of_the_provider_and_no_other(health: HealthStore):
    spent = Outcome(cool=cooled(600, "quota_exhausted"), whole_provider=True)
    await Caller(health, A).call(spent)
    assert await Caller(health, B).call(OK) == "quota_exhausted"
    assert await Caller(health, B).call(OK, forced=True) == Turned()
    assert await Caller(health, C).call(OK) == Turned()
    assert (await health.look([A, B, C])).providers == {"local": cooled(600, "quota_exhausted")}


async def test_what_was_too_much_lowers_the_calls_at_once_only_once_a_round_trip(
    caller: Caller, clock: Clock
):
    together = [await caller.begin() for _ in range(10)]
    clock.ms += 1_000
    for attempt in together:
        await caller.finish(attempt, TOO_MUCH)
    assert (await caller.standing()).limit == 7
    clock.ms += 1
    for _ in range(40):
        await caller.call(TOO_MUCH)
        clock.ms += 1
    assert (await caller.standing()).limit == 1, "never below one"


async def test_no_more_calls_are_made_at_once_than_routing_says_whatever_it_has_shown_to_take(
    health: HealthStore, clock: Clock
):
    caller = Caller(health, replace(A, concurrency=2))
    first, second, third = [await caller.begin() for _ in range(3)]
    assert third == "full"
    await caller.finish(first, OK)
    fourth = await caller.begin()
    assert [fourth in caller.under_way, await caller.begin(forced=True)] == [True, "full"]
    await caller.finish(second, TOO_MUCH)
    assert await caller.begin() == "full", "what it said holds too, where it is less"


async def limited_to(caller: Caller, limit: int, clock: Clock) -> None:
    """Its limit is `limit` calls at once: it had too much at limit/0.7."""
    together = [await caller.begin() for _ in range(-(-limit * 10 // 7))]
    clock.ms += 1
    for attempt in together:
        await caller.finish(attempt, TOO_MUCH)
    clock.ms += 1
    assert (await caller.standing()).limit == limit


async def test_a_call_above_the_limit_is_refused_and_one_more_fits_after_limit_successes(
    caller: Caller, clock: Clock
):
    await limited_to(caller, 7, clock)
    slots = [await caller.begin() for _ in range(7)]
    assert await caller.begin() == "full"
    for _round in range(2):
        for number in range(7):
            await caller.finish(slots[number], OK)
            slots[number] = await caller.begin()
    assert (await caller.standing()).limit == 8
    assert await caller.begin() in caller.under_way
    assert [await caller.begin() for _ in range(2)][-1] == "full"


async def test_a_limit_that_is_not_used_does_not_grow(caller: Caller, clock: Clock):
    await limited_to(caller, 7, clock)
    for _ in range(30):
        await caller.call(OK)
    assert (await caller.standing()).limit == 7


async def test_the_slots_of_a_dead_worker_come_back_with_their_lease(caller: Caller, clock: Clock):
    await limited_to(caller, 1, clock)
    lost = await caller.begin()
    assert await caller.begin() == "full"
    clock.ms += 45_000
    assert await caller.begin() in caller.under_way
    assert await caller.finish(lost, BAD) == Turned()
    assert (await caller.standing()).in_flight == 1


async def test_the_slots_of_a_worker_that_lives_last_as_long_as_their_calls(caller: Caller, clock: Clock):
    await limited_to(caller, 1, clock)
    attempt = await caller.begin()
    for _ in range(4):
        clock.ms += 30_000
        await caller.health.beat()
        assert await caller.begin() == "full"
    await caller.finish(attempt, OK)
    await caller.health.beat()
    assert (await caller.standing()).in_flight == 0


async def test_interleaving_3_every_script_may_be_repeated(caller: Caller, clock: Clock):
    await limited_to(caller, 1, clock)
    for _ in range(3):
        assert (await caller.health.begin(A, attempt="x", forced=False)).refused == ""
    assert (await caller.standing()).in_flight == 1
    for _ in range(9):
        turned = await caller.health.finish(A, BAD, attempt="x", begun=Begun(clock.ms), jitter=0)
        assert turned == Turned(), "one failure, however often it is told"


async def test_a_pause_stops_new_calls_at_once_until_it_is_over_or_resumed(health: HealthStore, clock: Clock):
    assert (
        await health.pause("provider:local", for_ms=60_000, reason="key leaked; see 17") == START_MS + 60_000
    )
    assert await Caller(health, A).call(OK, forced=True) == "paused"
    assert await Caller(health, C).call(OK) == Turned()
    [pause] = (await health.look([A])).pauses
    assert (pause.scope, pause.left_s, pause.reason) == ("provider:local", 60.0, "key leaked; see 17")
    clock.ms += 60_000
    assert await Caller(health, A).call(OK) == Turned()
    assert await health.pause("all") == 0
    clock.ms += 10**9
    assert [await Caller(health, at).call(OK) for at in (A, C)] == ["paused"] * 2
    assert [one.scope for one in (await health.look([A])).pauses] == ["all"]
    assert [await health.resume("all"), await health.resume("all")] == [True, False]
    assert await Caller(health, A).call(OK) == Turned()


async def test_what_runs_goes_on_while_it_is_paused(health: HealthStore):
    caller = Caller(health)
    attempt = await caller.begin()
    await health.pause("all")
    assert await caller.finish(attempt, OK) == Turned()
    assert (await caller.standing()).in_flight == 0


async def test_every_key_but_the_pauses_expires_and_has_one_tag(
    caller: Caller, client, namespace: str, clock: Clock
):
    clock.ms = int((await client.time())[0]) * 1000
    await limited_to(caller, 1, clock)
    await broken(caller)
    await caller.call(Outcome(cool=cooled(600, "auth"), whole_provider=True), forced=True)
    await caller.begin(forced=True)
    await caller.health.pause("all")
    keys = {key.decode() async for key in client.scan_iter(f"{namespace}:*")}
    root = f"{namespace}:{{health}}:"
    assert keys == {
        root + name for name in ("deployment:local/a", "deployment:local/a:calls", "provider:local", "pauses")
    }
    for key in keys - {root + "pauses"}:
        assert 0 < await client.pttl(key) <= store.LIFE_MS


async def seen(health: HealthStore, *deployments) -> Callable:
    return (await health.view(lambda: {one.name: one for one in deployments}))[0]


async def test_a_view_asks_redis_once_a_second_whoever_asks(client: redis.asyncio.Redis, namespace: str):
    health = HealthStore(client, namespace=namespace)
    first = await seen(health, A)
    await broken(Caller(health))
    assert await seen(health, A) is first
    fresh = HealthStore(client, namespace=namespace)
    assert (await seen(fresh, A)).deployments[A.name].open_s > 3


async def test_a_redis_that_is_away_stops_no_call(own_valkey: Valkey, namespace: str):
    async with redis.asyncio.Redis.from_url(own_valkey.redis_url) as client:
        health = HealthStore(client, namespace=namespace)
        await broken(Caller(health))
        own_valkey.kill()
        begun = await health.begin(A, attempt="x", forced=False)
        assert begun == Begun()
        assert await health.finish(A, BAD, attempt="x", begun=begun, jitter=0.0) == Turned()
        assert (await seen(health, A)).deployments == {}


async def test_a_redis_that_hangs_holds_no_call_for_more_than_a_second(own_valkey: Valkey, namespace: str):
    async with redis.asyncio.Redis.from_url(own_valkey.redis_url) as client:
        health = HealthStore(client, namespace=namespace)
        await health.pause("all")
        assert (await seen(health, A)).pauses
        own_valkey.pause()
        try:
            assert await health.begin(A, attempt="x", forced=False) == Begun()
        finally:
            own_valkey.resume()

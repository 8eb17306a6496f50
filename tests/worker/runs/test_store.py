"""Runs on a real Valkey, against a model in a few lines."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter

import pytest
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import Valkey
from worker.routing_file import Tier
from worker.runs import store
from worker.runs.rules import Met, Sameness, recounted
from worker.runs.store import Runs, Unknown

START_MS = 1_763_000_000_000
SAME = Sameness("same", None, 1)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


class Model:
    """What begin.lua does, without keys and lives."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.began: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.times: Counter[tuple[str, str]] = Counter()
        self.last: dict[tuple[str, str], int] = {}
        self.known: set[str] = set()

    def left(self, runs: tuple[str, ...]) -> int | None:
        most = self.tier.run_max_calls
        return None if most is None else max(0, most - max(self.calls[run] for run in runs))

    def begin(
        self, runs: tuple[str, ...], job: str, now: int, same: Sameness
    ) -> tuple[str, str] | int | None:
        tier = self.tier
        for run in runs:
            if tier.run_max_seconds and now - self.began.get(run, now) >= tier.run_max_seconds * 1000:
                return "wall_time", run
        if job in self.known:
            return self.left(runs)
        for run in runs:
            if tier.run_max_calls and self.calls[run] >= tier.run_max_calls:
                return "calls", run
        counted = []
        for run in runs if tier.run_max_repeats else ():
            counted.append((run, same.request))
            turns = (run, f"turns:{same.turns}")
            if same.turns and same.messages > self.last.get(turns, 0):
                counted.append(turns)
            for entry in counted:
                if self.times[entry] >= (tier.run_max_repeats or 0):
                    return "repeats", run
        self.times.update(counted)
        self.last.update(dict.fromkeys(counted, same.messages))
        self.calls.update(runs)
        self.began = {**dict.fromkeys(runs, now), **self.began}
        self.known.add(job)
        return self.left(runs)


CHAINS = st.sampled_from([("a",), ("b", "a"), ("c", "b", "a"), ("d",)])
SAMES = st.builds(Sameness, st.sampled_from("xyz"), st.sampled_from(["t", "u", None]), st.integers(1, 9))
STEPS = st.lists(st.tuples(CHAINS, st.integers(0, 25), st.integers(0, 4000), SAMES), min_size=1, max_size=50)
CAPS = st.one_of(st.none(), st.integers(1, 8))


@settings(max_examples=60)
@given(steps=STEPS, calls=CAPS, seconds=CAPS, repeats=CAPS)
def test_the_script_admits_what_the_model_admits(valkey: Valkey, steps, calls, seconds, repeats):
    tier = Tier("t", run_max_calls=calls, run_max_seconds=seconds, run_max_repeats=repeats)

    async def both() -> None:
        clock, model = Clock(), Model(tier)
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            runs = Runs(client, namespace=f"t{uuid.uuid4().hex[:10]}", now_ms=clock)
            for chain, number, passed_ms, same in steps:
                clock.ms += passed_ms
                job = f"{chain[0]}{number}"
                told = {"put_ms": clock.ms, "tier": tier, "sameness": same, "are_new": True}
                met = await runs.begin("acme", chain, job_id=job, **told)
                found = (met.cap, met.run_id) if isinstance(met, Met) else met
                assert found == model.begin(chain, job, clock.ms, same)

    asyncio.run(both())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(client: redis.asyncio.Redis, namespace: str, clock: Clock) -> Runs:
    return Runs(client, namespace=namespace, now_ms=clock)


async def begin(
    runs: Runs, job_id: str, *chain: str, tier: Tier | None = None, put_ms: int = START_MS, **more
) -> Met | object | None:
    told = {"sameness": SAME, "are_new": True, **more}
    return await runs.begin(
        "acme", chain or ("r",), job_id=job_id, put_ms=put_ms, tier=tier or Tier("t"), **told
    )


async def test_interleaving_3_a_job_is_counted_once_however_often_it_is_delivered(runs: Runs):
    tier = Tier("t", run_max_calls=2, run_max_repeats=2)
    assert [await begin(runs, "j1", tier=tier) for _ in range(5)] == [1] * 5
    assert await begin(runs, "j2", tier=tier) == 0, "jobs that the run may still have"
    assert await begin(runs, "j3", tier=tier) == Met("calls", "r")


async def test_the_children_of_a_run_count_in_it(runs: Runs):
    tier = Tier("t", run_max_calls=3)
    for number in range(3):
        assert await begin(runs, str(number), f"child-{number}", "root", tier=tier) == 2 - number
    assert await begin(runs, "3", "child-3", "root", tier=tier) == Met("calls", "root")
    assert await begin(runs, "4", "child-0", tier=tier) == 1


async def test_tenants_have_runs_of_the_same_name_for_themselves(runs: Runs):
    tier = Tier("t", run_max_calls=1)
    assert await begin(runs, "1", tier=tier) == 0
    told = {"job_id": "2", "put_ms": 0, "tier": tier, "sameness": None, "are_new": True}
    assert await runs.begin("globex", ("r",), **told) == 0
    assert await runs.begin("acme", ("r",), **told) == Met("calls", "r")


async def test_wall_time_is_the_servers_and_ends_what_is_delivered_again_too(runs: Runs, clock: Clock):
    tier = Tier("t", run_max_seconds=10)
    assert await begin(runs, "1", tier=tier) is None
    clock.ms += 9_999
    assert await begin(runs, "2", tier=tier) is None
    clock.ms += 1
    assert await begin(runs, "1", tier=tier) == await begin(runs, "3", tier=tier) == Met("wall_time", "r")


async def test_a_stop_ends_what_waited_and_refuses_what_comes(runs: Runs, clock: Clock):
    assert await begin(runs, "began", "child", "root") is None
    clock.ms += 1000
    stopped = await runs.stop("acme", "root", why="it burns")
    assert stopped == store.Stopped(clock.ms + store.STOPPED_MS, ("began",))
    met = Met("stopped", "root", "it burns", was_put_before=True)
    assert await begin(runs, "waited", "child", "root", put_ms=clock.ms - 1) == met
    assert await begin(runs, "began", "child", "root", put_ms=clock.ms + 5) == met
    assert await begin(runs, "new", "child", "root", put_ms=clock.ms) == Met("stopped", "root", "it burns")
    assert await begin(runs, "elsewhere", "child") is None


async def test_a_second_stop_moves_no_job_from_refused_to_cancelled(runs: Runs, clock: Clock):
    await runs.stop("acme", "r", why="first")
    clock.ms += 1000
    assert (await runs.stop("acme", "r", why="second")).until_ms == clock.ms + store.STOPPED_MS
    assert await begin(runs, "j", put_ms=clock.ms - 500) == Met("stopped", "r", "first")


async def test_a_job_that_has_ended_is_not_found_by_a_stop(runs: Runs):
    for job in ("1", "2"):
        await begin(runs, job, "child", "root")
    await runs.end("acme", ("child", "root"), job_id="1")
    await runs.end("acme", ("child", "root"), job_id="1")
    assert (await runs.stop("acme", "root")).job_ids == ("2",)
    assert (await runs.stop("acme", "child")).job_ids == ("2",)


async def test_what_is_kept_of_a_run_is_bounded(
    runs: Runs, client: redis.asyncio.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    tier = Tier("t", run_max_repeats=3)
    for limit in ("MOST_REQUESTS", "MOST_JOBS"):
        monkeypatch.setitem(vars(store), limit, 5)
    for number in range(20):
        assert await begin(runs, str(number), tier=tier, sameness=Sameness(str(number), None, 1)) is None
    root = f"{namespace}:{{run:acme}}:"
    assert await client.hlen(root + "requests:r") == await client.zcard(root + "jobs:r") == 5
    known = [await begin(runs, f"k{n}", tier=tier, sameness=Sameness("0", None, 1)) for n in range(3)]
    assert known == [None, None, Met("repeats", "r")]


async def test_every_key_expires_and_has_the_tenants_tag(
    runs: Runs, client: redis.asyncio.Redis, namespace: str
):
    await begin(runs, "1", "a}b", tier=Tier("t", run_max_seconds=3600, run_max_repeats=1))
    await runs.stop("acme", "a}b")
    keys = {key async for key in client.scan_iter(f"{namespace}:*")}
    assert keys == {
        f"{namespace}:{{run:acme}}:{name}:a}}b".encode() for name in ("counts", "requests", "jobs", "stopped")
    }
    for key in keys:
        assert 86_400_000 < await client.pttl(key) <= store.STOPPED_MS


async def test_a_run_without_caps_is_counted_and_compared_by_nothing(
    runs: Runs, client: redis.asyncio.Redis, namespace: str
):
    for number in range(50):
        assert await begin(runs, str(number), sameness=None) is None
    assert await client.hget(f"{namespace}:{{run:acme}}:counts:r", "calls") == b"50"
    assert not await client.exists(f"{namespace}:{{run:acme}}:requests:r")


async def test_a_run_that_is_not_known_is_said_so_and_seeded_once(runs: Runs, clock: Clock):
    tier = Tier("t", run_max_calls=4, run_max_repeats=3, run_max_seconds=60)
    assert await begin(runs, "j", "r", "root", tier=tier, are_new=False) == Unknown(("r", "root"))
    seed = {"tier": tier, "began_ms": START_MS - 30_000, "requests": {"same": (2, 1)}, "job_ids": ["old"]}
    await runs.seed("acme", "r", calls=2, **seed)
    await runs.seed("acme", "r", calls=99, **seed)
    assert await begin(runs, "j", "r", "root", tier=tier, are_new=False) == Unknown(("root",))
    assert await begin(runs, "j", "r", "root", tier=tier) == 1
    assert await begin(runs, "old", tier=tier, are_new=False) == 1, "it was counted before"
    assert await begin(runs, "k", tier=tier, are_new=False) == Met("repeats", "r")
    clock.ms += 30_000
    assert await begin(runs, "l", tier=tier, are_new=False) == Met("wall_time", "r")
    assert set((await runs.stop("acme", "r")).job_ids) == {"old", "j"}


SEEN = st.lists(st.builds(Sameness, st.sampled_from("xy"), st.sampled_from(["t", None]), st.integers(1, 9)))


@given(requests=SEEN)
def test_requests_are_recounted_as_the_model_counted_them(requests):
    model = Model(Tier("t", run_max_repeats=10**6))
    for number, same in enumerate(requests):
        model.begin(("r",), str(number), START_MS, same)
    counted = {digest: (times, model.last["r", digest]) for (_run, digest), times in model.times.items()}
    assert recounted(requests) == counted

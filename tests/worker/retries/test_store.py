"""The retry budget on a real Valkey, against a model of ten lines."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import Valkey
from worker.retries import store
from worker.retries.store import RetryBudget

START_MS = 1_763_000_000_000


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


class Bucket:
    """What the script does, in ten lines: deposits in thousandths of a token."""

    def __init__(self, floor_per_min: int) -> None:
        self.per_ms = floor_per_min
        self.brim = self.floor = floor_per_min * 60_000  # a token is 60000
        self.at, self.deposits = START_MS, {}  # window number -> thousandths

    def count(self, now: int, *, kind: int) -> bool:
        self.floor = min(self.brim, self.floor + max(0, now - self.at) * self.per_ms)
        self.at, window = now, now // store.WINDOW_MS
        self.deposits = {n: amount for n, amount in self.deposits.items() if n >= window - 1}
        if kind == store.FIRST:
            self.deposits[window] = min(store.CAP, self.deposits.get(window, 0) + store.DEPOSIT)
            return True
        if sum(self.deposits.values()) >= 1000:
            from_old = min(1000, self.deposits.get(window - 1, 0))
            self.deposits[window - 1] = self.deposits.get(window - 1, 0) - from_old
            self.deposits[window] = self.deposits.get(window, 0) - (1000 - from_old)
            return True
        allowed = self.floor >= 60_000 + (self.brim // 2 if kind == store.HEDGE else 0)
        self.floor -= 60_000 if allowed else 0
        return allowed


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(client: redis.asyncio.Redis, namespace: str, clock: Clock) -> RetryBudget:
    return RetryBudget(client, namespace=namespace, now_ms=clock)


async def begin(budget: RetryBudget, job_id: str, *, retries: int = 0, content: str = "c", floor: int = 2):
    return await budget.begin("acme", job_id=job_id, retries=retries, content=content, floor_per_min=floor)


steps = st.lists(
    st.tuples(
        st.integers(0, 400_000) | st.integers(0, 2000),
        st.sampled_from([store.FIRST, store.RETRY, store.HEDGE]),
    ),
    min_size=1,
    max_size=60,
)


@pytest.fixture(scope="module")
def blocking(valkey: Valkey) -> Iterator[redis.Redis]:
    connection = redis.Redis.from_url(valkey.redis_url)
    yield connection
    connection.close()


@settings(max_examples=80)
@given(steps=steps, floor=st.integers(0, 12))
def test_the_script_admits_what_the_model_admits(blocking: redis.Redis, steps, floor):
    name = uuid.uuid4()
    script = blocking.register_script((store.Path(store.__file__).parent / "count.lua").read_text())
    model, now = Bucket(floor), START_MS
    for number, (passed_ms, kind) in enumerate(steps):
        now += passed_ms
        keys = [f"m:{{{name}}}:bucket", f"m:{{{name}}}:op:{number}"]
        args = [floor, "", kind, store.DEPOSIT, store.CAP, store.WINDOW_MS, 10_000, now]
        allowed, wait_ms, _kind = script(keys=keys, args=args)
        assert bool(allowed) == model.count(now, kind=kind)
        assert (
            wait_ms == 0
            if allowed
            else (wait_ms == -1 if floor == 0 or kind == store.HEDGE else 0 < wait_ms <= 60_000)
        )


async def test_the_floor_is_there_from_the_start_and_comes_back_with_time(budget: RetryBudget, clock: Clock):
    assert [(await budget.take("acme", f"r{n}", 2)).allowed for n in range(3)] == [True, True, False]
    refused = await budget.take("acme", "r3", 2)
    assert refused.retry_after_s == 30.0
    clock.ms += 29_999
    assert not (await budget.take("acme", "r4", 2)).allowed
    clock.ms += 1
    assert (await budget.take("acme", "r5", 2)).allowed


async def test_five_first_attempts_pay_for_one_retry_for_five_to_ten_minutes(
    budget: RetryBudget, clock: Clock
):
    for number in range(5):
        assert (await begin(budget, f"j{number}", content=str(number), floor=0)).allowed
    clock.ms += 300_000
    assert (await budget.take("acme", "r1", 0)).allowed
    assert not (await budget.take("acme", "r2", 0)).allowed
    for number in range(5, 10):
        await begin(budget, f"j{number}", content=str(number), floor=0)
    clock.ms += 600_000
    assert not (await budget.take("acme", "r3", 0)).allowed


async def test_a_budget_without_floor_says_that_waiting_does_not_help_soon(budget: RetryBudget):
    assert (await budget.take("acme", "r1", 0)).retry_after_s == 3600.0


async def test_interleaving_3_one_operation_counts_once_however_often_it_comes(budget: RetryBudget):
    assert [(await budget.take("acme", "same", 1)).allowed for _ in range(5)] == [True] * 5
    assert not (await budget.take("acme", "other", 1)).allowed
    assert [(await begin(budget, "j1", retries=1, floor=1)).allowed for _ in range(2)] == [False, False]


async def test_interleaving_23_a_thousand_redelivered_first_attempts_take_nothing(budget: RetryBudget):
    """A worker with a thousand open calls dies."""
    jobs = [f"j{number}" for number in range(1000)]
    for _delivery in range(2):
        for job_id in jobs:
            assert (await begin(budget, job_id, content=job_id)).allowed
    assert (await budget.take("acme", "r", 2)).allowed


async def test_a_resubmission_of_failed_content_is_a_retry_and_the_job_itself_is_not(budget: RetryBudget):
    await begin(budget, "a")
    await budget.remember_failure("acme", job_id="a", content="c")
    assert not (await begin(budget, "a")).resubmitted
    grants = [await begin(budget, job_id) for job_id in ("b", "c", "d")]
    assert [(grant.allowed, grant.resubmitted) for grant in grants] == [
        (True, True),
        (True, True),
        (False, True),
    ]
    assert (await begin(budget, "e", content="else")).resubmitted is False


async def test_content_that_was_answered_since_is_new_again(budget: RetryBudget):
    await budget.remember_failure("acme", job_id="a", content="c")
    assert (await begin(budget, "b")).resubmitted
    await budget.forget_failure("acme", content="c")
    assert not (await begin(budget, "c")).resubmitted


async def test_hedges_leave_half_of_the_floor_to_what_has_failed(budget: RetryBudget, clock: Clock):
    hedges = [(await budget.take("acme", f"h{n}", 4, is_hedge=True)).allowed for n in range(4)]
    assert hedges == [True, True, False, False]
    assert [(await budget.take("acme", f"r{n}", 4)).allowed for n in range(3)] == [True, True, False]
    clock.ms += 30_000  # half of it is back: for failures again
    assert not (await budget.take("acme", "h", 4, is_hedge=True)).allowed
    assert (await budget.take("acme", "r", 4)).allowed


async def test_hedges_take_what_first_attempts_have_paid_in(budget: RetryBudget):
    for number in range(5):
        await budget.begin("acme", job_id=f"j{number}", retries=0, content=f"c{number}", floor_per_min=0)
    found = [(await budget.take("acme", f"h{n}", 0, is_hedge=True)).allowed for n in range(2)]
    assert found == [True, False]


async def test_tenants_do_not_pay_for_each_other(budget: RetryBudget):
    assert (await budget.take("acme", "r1", 1)).allowed
    assert not (await budget.take("acme", "r2", 1)).allowed
    assert (await budget.take("globex", "r1", 1)).allowed


async def test_interleaving_25_a_clock_that_leaps_fills_to_the_brim_and_one_that_goes_back_gives_nothing(
    budget, clock: Clock
):
    for number in range(2):
        await budget.take("acme", f"a{number}", 2)
    clock.ms -= 3_600_000
    assert not (await budget.take("acme", "b", 2)).allowed
    clock.ms += 7_200_000
    assert [(await budget.take("acme", f"c{n}", 2)).allowed for n in range(3)] == [True, True, False]


async def test_every_key_expires_and_has_the_tenants_tag(budget: RetryBudget, client, namespace: str):
    await begin(budget, "j1")
    await budget.remember_failure("acme", job_id="j1", content="c")
    keys = [key async for key in client.scan_iter(f"{namespace}:*")]
    assert len(keys) == 3
    for key in keys:
        assert b"{retry:acme}" in key
        assert 0 < await client.pttl(key) <= 3_600_000


async def test_the_servers_clock_is_used_in_service(client: redis.asyncio.Redis, namespace: str):
    in_service = RetryBudget(client, namespace=namespace)
    assert [(await in_service.take("acme", f"r{n}", 1)).allowed for n in range(2)] == [True, False]

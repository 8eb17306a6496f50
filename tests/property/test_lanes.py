"""Hypothesis drives the lanes on a real Valkey and a model of them side by side."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import uuid
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import hypothesis
import redis.asyncio
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import Finished, TaskLimits, TenantLimits
from tests.producer_sdk.lanes.hall import LEASE_MS, TTL_S, Hall, job
from tests.property.lanes_model import LANES, Model
from tests.servers import Valkey

T = TypeVar("T")
DELIVERY_CAP = 2
RUNS, MOVES = 40, 30
TENANTS = ["acme", "a:b", ""]
offsets_ms = st.sampled_from([0, 0, 0, 5000, LEASE_MS, 3 * LEASE_MS])
jobs = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from(TENANTS),
        "task": st.sampled_from(["plain", "plain", "kept-apart"]),
        "lane": st.sampled_from([*LANES, LANES[0]]),
        "cost": st.sampled_from([1, 100, 100, 1000]),
        "tokens": st.sampled_from([1, 80, 80, 700]),
        "priority": st.sampled_from([0, 5, 5, 9]),
        "due": offsets_ms,
        "deadline": st.sampled_from([0, 0, 5000, 2 * LEASE_MS]),
    }
)

rates = st.sampled_from([None, None, 60, 6000])
limits = st.builds(
    TenantLimits,
    concurrency=st.integers(1, 3),
    requests_per_min=rates,
    tokens_per_min=rates,
    burst_s=st.sampled_from([2.0, 6.0]),
    max_pending=st.sampled_from([None, None, 5]),
    weight=st.sampled_from([1.0, 2.0, 0.5]),
    tasks=st.dictionaries(
        st.just("kept-apart"), st.builds(TaskLimits, st.sampled_from([None, 1]), rates, rates), max_size=1
    ),
)


class LanesAndModel(RuleBasedStateMachine):
    """Each rule does one thing to both and compares their answers."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = redis.asyncio.Redis.from_url(url)
        self.hall = Hall(self.client, f"m{uuid.uuid4().hex[:10]}")
        self.tags: list[str] = []
        self.operations = 0

    def wait(self, doing: Coroutine[Any, Any, T]) -> T:
        """Await."""
        return self.runner.run(doing)

    def teardown(self) -> None:
        """Close the client and its loop."""
        self.wait(self.client.aclose())
        self.runner.close()

    @initialize(each=st.lists(limits, min_size=3, max_size=3))
    def open(self, each: list[TenantLimits]) -> None:
        """An open hall: its first lease has passed."""
        self.wait(self.hall.open())
        told = dict(zip(TENANTS, each, strict=True))
        self.wait(self.hall.limit(TenantLimits(), **told))
        self.model = Model(limits=told, lease=LEASE_MS, delivery_cap=DELIVERY_CAP)

    @rule(fresh=st.lists(jobs, min_size=1, max_size=5))
    def put(self, fresh: list[dict[str, Any]]) -> None:
        """Put new jobs."""
        for fields in fresh:
            self.put_as(f"j{len(self.model.rows)}", **fields)

    @precondition(lambda self: self.model.rows)
    @rule(number=st.integers(0, 50), fields=jobs, body=st.sampled_from(["", "other"]))
    def put_again(self, number: int, fields: dict[str, Any], body: str) -> None:
        """Put a job whose id is known."""
        self.put_as(f"j{number % len(self.model.rows)}", body=body, **fields)

    def put_as(self, name: str, *, due: int, deadline: int, **fields: Any) -> None:
        """Put one job into both."""
        now = self.hall.now_ms
        due_ms, deadline_ms = now + due if due else 0, now + deadline if deadline else 0
        entry = job(name, due_ms=due_ms, deadline_ms=deadline_ms, **fields)
        assert self.wait(self.hall.put(entry)) == [self.model.put(entry, now)]

    @rule(n=st.integers(1, 2))
    def take_few(self, n: int) -> None:
        """Take often: most of what can go wrong is in who comes next."""
        self.take_jobs(n, is_repeated=False)

    @rule(n=st.integers(1, 8))
    def take_and_lose_the_reply(self, n: int) -> None:
        """Take, and take again with the same operation id."""
        self.take_jobs(n, is_repeated=True)

    def take_jobs(self, n: int, *, is_repeated: bool) -> None:
        """Take from both."""
        self.operations += 1
        op_id = f"take{self.operations}"
        held = self.wait(self.hall.take(n, op_id=op_id))
        given = [(one.job_id, one.stop, one.deliveries) for one in held]
        assert given == self.model.take(n, self.hall.now_ms, op_id)
        assert not is_repeated or not held or self.wait(self.hall.take(n, op_id=op_id)) == held
        self.tags += [one.tag for one in held]

    def tag(self, number: int) -> str:
        """One of the tags given out, live or not."""
        return self.tags[number % len(self.tags)]

    @precondition(lambda self: self.tags)
    @rule(number=st.integers(0, 50), used=st.sampled_from([None, (0, 0), (80, 0), (90, 400)]))
    def finish(self, number: int, used: tuple[int, int] | None) -> None:
        """End a delivery, or try to; what it took was more or less than estimated, or is not known."""
        tag = self.tag(number)
        ended = self.wait(self.hall.lanes.finish([Finished(tag, b"done", TTL_S, None, used=used)]))
        assert ended == [self.model.finish(tag, used, self.hall.now_ms)]

    @rule(tenant=st.sampled_from(TENANTS), for_ms=st.sampled_from([0, 5000, LEASE_MS]))
    def pause(self, tenant: str, for_ms: int) -> None:
        """Pause a tenant, for a time or until it is resumed."""
        until_ms = self.hall.now_ms + for_ms if for_ms else 0
        assert self.wait(self.hall.lanes.pause(tenant, for_ms=for_ms, reason="a test")) == until_ms
        self.model.pause(tenant, until_ms, self.hall.now_ms)

    @rule(tenant=st.sampled_from(TENANTS))
    def resume(self, tenant: str) -> None:
        """Resume it."""
        was_paused = self.model.resume(tenant, self.hall.now_ms)
        assert self.wait(self.hall.lanes.resume(tenant)) == was_paused

    @rule(ms=st.sampled_from([1, 40, 700, 3000]))
    def wait_a_little(self, ms: int) -> None:
        """Buckets refill."""
        self.wait(self.hall.at(self.hall.now_ms + ms))

    @precondition(lambda self: self.tags)
    @rule(number=st.integers(0, 50), delay=offsets_ms)
    def hand_back(self, number: int, delay: int) -> None:
        """Hand a delivery back, or try to."""
        tag, now = self.tag(number), self.hall.now_ms
        assert self.wait(self.hall.lanes.hand_back(tag, delay_ms=delay)) == self.model.hand_back(
            tag, now, delay
        )

    @precondition(lambda self: self.tags)
    @rule(number=st.integers(0, 50), cost=st.integers(1, 300), due=offsets_ms)
    def move(self, number: int, cost: int, due: int) -> None:
        """Retry a delivery's job, or try to."""
        tag, now = self.tag(number), self.hall.now_ms
        entry: LaneEntry = self.model.rows[tag.rpartition(":")[0]].entry
        entry = dataclasses.replace(entry, cost=cost, due_ms=now + due if due else 0)
        assert self.wait(self.hall.lanes.move(tag, entry)) == self.model.move(tag, entry, now)

    @precondition(lambda self: self.tags)
    @rule(number=st.integers(0, 50))
    def cancel(self, number: int) -> None:
        """Cancel a job."""
        name = f"j{number % len(self.model.rows)}"
        assert self.wait(self.hall.lanes.cancel(name)) == self.model.cancel(name, self.hall.now_ms)

    @rule(thirds=st.integers(1, 4), alive=st.sets(st.integers(0, 50)))
    def live_on(self, thirds: int, alive: set[int]) -> None:
        """Time passes; some workers beat, others are gone."""
        tags = [tag for number, tag in enumerate(self.tags) if number in alive]
        for _third in range(thirds):
            lost = self.wait(self.hall.live_on(LEASE_MS // 3, tags))
            assert lost == self.model.beat(tags, self.hall.now_ms)

    @rule()
    def sweep(self) -> None:
        """Sweep."""
        returned, dead, held_off = self.wait(self.hall.sweep(delivery_cap=DELIVERY_CAP))
        assert held_off == (self.hall.now_ms < self.model.hold_until)
        assert (returned, dead) == self.model.sweep(self.hall.now_ms)

    @rule(jump=st.sampled_from([LEASE_MS, -LEASE_MS]))
    def jump(self, jump: int) -> None:
        """The server is away for a lease, or its clock is set back."""
        self.wait(self.hall.at(self.hall.now_ms + jump))
        self.wait(self.hall.lanes.beat([], lease_ms=LEASE_MS))
        self.model.jumped(self.hall.now_ms, back=jump < 0)

    @invariant()
    def every_job_is_where_the_model_has_it(self) -> None:
        """And no tenant is over its slots."""
        names = list(self.model.rows)
        states = self.wait(self.hall.lanes.states(names))
        assert {state.job_id: state.state for state in states} == {
            name: row.state for name, row in self.model.rows.items()
        }
        running = Counter(state.tenant for state in states if state.state == "running")
        assert all(count <= self.model.limits[tenant].concurrency for tenant, count in running.items())

    @invariant()
    def virtual_times_are_the_models(self) -> None:
        """Those of the tenants that wait for their turn."""
        depths = {(queue.lane, queue.tenant): queue for queue in self.wait(self.hall.lanes.depths())}
        found = {spot: depths[spot].virtual_time for spot in self.model.ready}
        assert found == {spot: math.floor(self.model.at[spot]) for spot in self.model.ready}


def test_the_lanes_do_what_the_model_does(valkey: Valkey) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis'
        lambda: LanesAndModel(valkey.redis_url),
        settings=hypothesis.settings(max_examples=RUNS, stateful_step_count=MOVES),
    )

"""Budgets that fit a part of the jobs, while workers are killed mid-call, and the broker is killed and flushed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from producer_sdk import AsyncFleet
from producer_sdk.contract import Job, to_pico, usd_text, uuid7
from tests.chaos import money_jobs
from tests.chaos.crew import Crew, Worker, submit
from tests.chaos.fairlane_commands import fairlane
from tests.chaos.money_books import KINDS, Audit, Flush, MoneyEvidence
from tests.chaos.money_report import BOTH, BROKER, FLUSHED, WORKER, Plan, Report
from tests.chaos.money_watch import Watch
from tests.chaos.scene import Scene, found_within, until
from tests.servers import Valkey
from worker.books import sync_limits
from worker.cli.budget_windows import all_windows
from worker.cli.opened import open_ledger
from worker.ledger.ledger import LimitChange
from worker.routing_load import load
from worker.settings import WorkerSettings

MONEY_LASTS_S = 3.0  # for so long a call is waited for before a new generation of tenants begins
MOST_GENERATIONS = 20  # for one strike
JOBS_AT_FLUSH = 200  # at once, so that many only wait
MOST_MISSED = 2  # kills a planned one, for calls may end just then


class MoneySoak:
    """One run of a plan over one scene."""

    def __init__(
        self, plan: Plan, scene: Scene, valkey: Valkey, *, start: Callable[[WorkerSettings], Worker]
    ) -> None:
        self._plan = plan
        self._scene = scene
        self._valkey = valkey
        self._dice = random.Random(plan.seed)
        self._crew = Crew(scene, valkey, start=start, dice=self._dice)
        self._fleet = AsyncFleet(scene.settings.fleet)
        self._watch = Watch(scene)
        self._routing = load(scene.settings.routing_path)
        self._jobs: list[Job] = []
        self._generation = 1
        self._struck: Counter[str] = Counter()
        self._killed_mid_call = 0
        self._killed = 0
        self._audits: list[Audit] = []
        self._flushes: list[Flush] = []
        self._cancelled_mid_call: set[str] = set()  # their money had come just then
        self._do = {
            WORKER: self._kill_worker,
            BROKER: self._kill_broker,
            BOTH: self._kill_both,
            FLUSHED: self._flush,
        }

    async def run(self, say: Callable[[str], None] = lambda _line: None) -> Report:
        """Submit, strike, and look at the books at every rest."""
        began = time.monotonic()
        await self._scene.behave(*money_jobs.RULES)
        async with self._fleet:
            watching = asyncio.create_task(self._watch.look())
            try:
                for _ in range(self._plan.workers):
                    self._crew.start()
                await self._strike_all(say)
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
                exit_codes = await self._crew.end_warmly()
            finally:
                watching.cancel()
                for worker in self._crew.workers.values():
                    worker.kill()
        evidence, duration_s = await self._evidence(), time.monotonic() - began
        return Report(
            plan=self._plan,
            evidence=evidence,
            struck=self._struck,
            killed_mid_call=self._killed_mid_call,
            killed=self._killed,
            generations=self._generation,
            duration_s=duration_s,
            exit_codes=exit_codes,
        )

    async def _strike_all(self, say: Callable[[str], None]) -> None:
        strikes = self._plan.strikes(self._dice)
        rests = {len(strikes) * number // self._plan.audits for number in range(1, self._plan.audits)}
        for number, strike in enumerate(strikes, 1):
            await self._submit_and_strike(strike)
            say(f"{number}/{len(strikes)}: {strike}; {len(self._jobs)} jobs, generation {self._generation}")
            if number in rests:
                await self._rest(say)
        for _ in range(MOST_MISSED * self._plan.worker_kills):
            if self._killed_mid_call >= self._plan.worker_kills:
                break
            await self._submit_and_strike(WORKER)
        await self._spend_all()
        await self._rest(say)

    async def _submit_and_strike(self, strike: str) -> None:
        """Strike after a random number of calls, if there is money for so many."""
        self._crew.assert_none_has_ended()
        goal = await self._scene.calls_made() + self._dice.randint(1, self._plan.jobs_a_strike // 2)
        await self._submit()
        await found_within(MONEY_LASTS_S, partial(self._has_made, goal))
        await self._do[strike]()
        self._struck[strike] += 1

    async def _submit(self, how_many: int | None = None) -> None:
        first = len(self._jobs)
        numbers = range(first, first + (how_many or self._plan.jobs_a_strike))
        jobs = [money_jobs.job(self._dice, number, self._generation) for number in numbers]
        self._jobs += jobs
        await submit(self._scene, self._fleet, jobs)

    async def _has_made(self, calls: int) -> bool:
        return await self._scene.calls_made() >= calls

    async def _mid_call(self) -> str:
        """A worker with a call open at the provider. Where there is no money left for one, new tenants bring some."""
        for _ in range(MOST_GENERATIONS):
            name = await found_within(MONEY_LASTS_S, self._one_mid_call)
            if name:
                return str(name)
            await self._begin_generation()
            await self._submit()
        raise AssertionError("no worker has made a call")

    async def _one_mid_call(self) -> str | None:
        recent = await self._scene.calls_made() - 300
        open_calls = await self._scene.open_calls(after=max(0, recent))
        holder = {tag: name for name, tag in (await self._scene.holders()).values()}
        in_flight = self._scene.rows.in_flight()
        names = {holder.get(in_flight[attempt]) for attempt in open_calls if attempt in in_flight}
        at_work = sorted(name for name in names if name in self._crew.workers)
        return self._dice.choice(at_work) if at_work else None

    async def _begin_generation(self) -> None:
        """New tenants, for whom the operator gives the fleet and the provider as much as they had at first."""
        self._generation += 1
        shared = [window for window in all_windows(self._routing) if window.is_shared]
        async with open_ledger(self._scene.settings) as ledger:
            for window in shared:
                amount, why = window.limit_pico, "a new generation"
                change = LimitChange(uuid7(), "top_up", window.name, amount, why, datetime.now(UTC))
                await ledger.change_limit(change)
            await sync_limits(ledger, self._scene.store)

    async def _kill_worker(self) -> None:
        self._count(await self._crew.kill(await self._mid_call()))

    def _count(self, died: set[str]) -> None:
        self._killed += 1
        self._killed_mid_call += bool(died)

    async def _kill_broker(self) -> None:
        self._valkey.kill()
        await self._crew.restart_broker()

    async def _kill_both(self) -> None:
        """What was in flight is read when the broker is back: nothing is swept, and nothing reaped, so soon."""
        name = await self._mid_call()
        self._valkey.kill()
        await self._crew.end(name)
        await self._crew.restart_broker()
        died = await self._crew.in_flight_in(name)
        self._scene.in_flight_at_kills |= died
        self._count(died)
        self._crew.start()

    async def _flush(self) -> None:
        """FLUSHALL, and a worker killed with it; a while later the producers submit all that they have, again."""
        scene, rows = self._scene, self._scene.rows
        await self._begin_generation()
        await self._submit(JOBS_AT_FLUSH)
        name = await self._mid_call()
        finished = frozenset(rows.finals())
        called = frozenset(a for a, job in rows.jobs_of_attempts().items() if job in finished)
        held = (await scene.holders()).values()
        async with scene.redis.pipeline(transaction=True) as server:
            server.zrange(scene.lanes.keys.root + "unacked", 0, -1)
            server.flushall()
            unacked, _flushed = await server.execute()
        await self._crew.end(name)
        died = {attempt for attempt, tag in rows.in_flight().items() if (name, tag) in held}
        scene.in_flight_at_kills |= died
        self._count(died)
        in_hand = frozenset(job_id.decode() for job_id in unacked)
        gone = frozenset(scene.accepted - rows.begun() - in_hand)
        states = await scene.lanes.states(sorted(gone)) if gone else []
        known = frozenset(state.job_id for state in states if state.state != "unknown")
        self._crew.start()
        await asyncio.sleep(self._dice.uniform(0, scene.settings.lease_s))  # producers are not that quick
        await submit(scene, self._fleet, self._jobs)
        self._flushes.append(Flush(in_hand, finished, called, gone, known, len(self._jobs)))

    async def _spend_all(self) -> None:
        """Until each kind of window was spent once: money that a leaked hold has locked away never is."""
        for _ in range(MOST_GENERATIONS):
            await until(self._only_money_is_waited_for, within_s=90, what="an end of all jobs with money")
            await asyncio.to_thread(self._watch.sample)
            if self._watch.full >= set(KINDS):
                return
            if "fleet's days" in self._watch.full_now:
                await self._begin_generation()
            await self._submit()

    async def _rest(self, say: Callable[[str], None]) -> None:
        """Wait until all jobs have ended but those that wait for money; give some of them money; cancel the others."""
        began = time.monotonic()
        await until(self._only_money_is_waited_for, within_s=90, what="an end of all jobs with money")
        extra = to_pico(self._routing.tiers["thrifty"].daily_budget_usd) // 2
        tenant = money_jobs.tenant(money_jobs.NAMES[0], self._generation)
        exit_code, told = await fairlane(
            self._scene.settings, "budget", "top-up", usd_text(extra), "--tenant", tenant
        )
        assert exit_code == 0, told
        await until(
            self._only_money_is_waited_for, within_s=90, what="an end of the jobs that have got money"
        )
        for job_id in await self._scene.without_result():
            if await self._fleet.cancel(job_id) == "running":
                self._cancelled_mid_call.add(job_id)
        await until(self._scene.is_at_rest, within_s=90, what="rest")
        audit = await self._watch.audit(rest_s=time.monotonic() - began)
        self._audits.append(audit)
        say(f"at rest after {audit.rest_s:.1f} s; the doctor: {', '.join(audit.doctor.states)}")

    async def _only_money_is_waited_for(self) -> bool:
        counts = await self._scene.lanes.counts()
        return not (counts.pending or counts.running or counts.closing)

    async def _evidence(self) -> MoneyEvidence:
        scene, watch = self._scene, self._watch
        # A job in a worker's hands at the flush may end there just when another worker has begun it anew.
        in_hand = sum(len(flush.in_hand) for flush in self._flushes)
        cancelled = len(self._cancelled_mid_call)
        books = replace(await scene.evidence(), in_flight_at_pauses=in_hand, broken_by_tests=cancelled)
        return MoneyEvidence(
            books=books,
            audits=tuple(self._audits),
            overspent=tuple(watch.overspent),
            samples=watch.samples,
            least_room_pico=watch.least_room_pico or 0,
            full=frozenset(watch.full),
            over_reserved=scene.rows.over_reserved(),
            uncertain={event.id: event.job_id for event in books.uncertain},
            in_flight_at_kills=frozenset(scene.in_flight_at_kills),
            cancelled_mid_call=frozenset(self._cancelled_mid_call),
            attempts=scene.rows.jobs_of_attempts(),
            flushes=tuple(self._flushes),
        )

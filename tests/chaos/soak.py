"""Many jobs of several tenants while workers and the broker are killed at random moments; then the books."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import redis.exceptions

from producer_sdk import AsyncFleet
from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.books import Evidence, violations
from tests.chaos.crew import Crew, Worker, submit
from tests.chaos.held_takes import HeldTakes
from tests.chaos.reply_proxy import ReplyProxies
from tests.chaos.scene import Scene, until
from tests.chaos.stage import RULES, SLOW
from tests.servers import Valkey
from worker.settings import WorkerSettings

TENANTS = ("ants", "bees", "cats", "dogs")
LATENCIES_MS = (50, 150, 400)
BUSY = "[busy]"
DOWN = "[down]"
SOAK_RULES = [
    *RULES,
    {"match": {"contains": BUSY, "model": "twin-small"}, "status": 429, "retry_after": 1},
    {"match": {"contains": DOWN, "model": "twin-small"}, "status": 503},
    *({"match": {"contains": f"[{ms} ms]"}, "latency_ms": ms} for ms in LATENCIES_MS),
]
LEAST_SUCCEEDED = 0.95
AT_A_TAKE = "worker killed with a take's reply on its way"


@dataclass(frozen=True)
class Plan:
    """What to do; the seed decides every job, and the order and distance of the kills."""

    seed: int
    jobs: int = 2000
    worker_kills: int = 30
    held_reply_kills: int = 6  # between the server's running of a take and its reply
    broker_kills: int = 3
    worker_pauses: int = 3
    workers: int = 3


@dataclass(frozen=True)
class Report:
    """What a soak came to."""

    plan: Plan
    evidence: Evidence
    duration_s: float
    exit_codes: tuple[int | None, ...]  # of the workers that were asked to end
    held_jobs: tuple[int, ...]  # in each take whose reply was on its way when its worker was killed
    delivery_cap: int

    @property
    def violations(self) -> list[str]:
        found = violations(self.evidence)
        share = self.evidence.succeeded / max(1, len(self.evidence.accepted))
        if share < LEAST_SUCCEEDED:
            found.append(f"only {share:.1%} of the jobs succeeded")
        if len(self.evidence.accepted) != self.plan.jobs:
            found.append(f"{len(self.evidence.accepted)} of {self.plan.jobs} jobs were accepted")
        if len(self.held_jobs) != self.plan.held_reply_kills:
            found.append(f"only {len(self.held_jobs)} workers were killed between a take and its reply")
        if any(self.exit_codes):
            found.append(f"asked to end, the workers ended with {self.exit_codes}")
        return found

    def rows(self) -> list[tuple[str, str]]:
        """The table."""
        evidence, plan = self.evidence, self.plan
        ledger_pico, twin_pico = evidence.certain_cost_pico()
        unknown_pico = sum(event.cost_pico for event in evidence.uncertain)
        hits = sum(event.cache == "exact" for event in evidence.events)
        return [
            ("seed", str(plan.seed)),
            ("jobs accepted", f"{len(evidence.accepted):,}"),
            ("succeeded", f"{evidence.succeeded / max(1, len(evidence.accepted)):.2%}"),
            ("lost", str(len(evidence.lost))),
            (f"given up by the lanes after {self.delivery_cap} lost deliveries", str(evidence.given_up)),
            ("worker processes killed (SIGKILL)", str(plan.worker_kills + plan.held_reply_kills)),
            ("of these, between a take and its reply", str(len(self.held_jobs))),
            ("jobs that those takes had handed out", str(sum(self.held_jobs))),
            ("worker processes paused past their lease (SIGSTOP)", str(plan.worker_pauses)),
            ("broker killed (SIGKILL) and restarted", str(plan.broker_kills)),
            ("attempts that the provider billed", f"{len(evidence.billed):,}"),
            ("ledger rows of attempts", f"{len(evidence.events) - hits:,}"),
            ("ledger rows of cache hits", f"{hits:,}"),
            ("uncertain", str(len(evidence.uncertain))),
            ("in flight in the killed workers", str(evidence.in_flight_at_kills)),
            ("in flight in the paused workers, beside", str(evidence.in_flight_at_pauses)),
            ("cost, ledger (uncertain apart)", f"{ledger_pico / 10**12:.9f} USD"),
            ("cost, provider's books (the same attempts)", f"{twin_pico / 10**12:.9f} USD"),
            ("uncertain, at worst case", f"{unknown_pico / 10**12:.9f} USD"),
            ("unacked", str(evidence.lanes["unacked"])),
            ("holds left", str(evidence.holds)),
            ("duration", f"{self.duration_s:.0f} s"),
        ]


class Soak:
    """One run of a plan over one scene."""

    def __init__(
        self, plan: Plan, scene: Scene, valkey: Valkey, *, start: Callable[[WorkerSettings], Worker]
    ) -> None:
        self._plan = plan
        self._scene = scene
        self._valkey = valkey
        self._dice = random.Random(plan.seed)
        self._paused: dict[str, Worker] = {}
        self._resuming: list[asyncio.Task[None]] = []
        self._proxies = ReplyProxies(valkey.socket, scene.settings.home)
        self._crew = Crew(scene, valkey, start=start, dice=self._dice, proxies=self._proxies)
        self._held_takes = HeldTakes(scene, self._proxies)
        self._held_jobs: list[int] = []
        self._do = {
            "worker killed": self._kill_worker,
            "worker paused": self._pause_worker,
            "broker killed": self._kill_broker,
        }

    async def run(self, say: Callable[[str], None] = lambda _line: None) -> Report:
        """Submit, kill, wait for rest."""
        began = time.monotonic()
        strikes = self._strikes()
        chunks = _chunks([_job(self._dice, number) for number in range(self._plan.jobs)], len(strikes) + 1)
        await self._scene.behave(*SOAK_RULES)
        with self._proxies:
            try:
                for _ in range(self._plan.workers):
                    self._crew.start()
                async with AsyncFleet(self._scene.settings.fleet) as fleet:
                    for number, strike in enumerate(strikes):
                        await self._submit_and_strike(fleet, strike, chunks[number], spare=chunks[-1])
                        accepted = len(self._scene.accepted)
                        say(f"{number + 1}/{len(strikes)}: {strike}; {accepted} jobs accepted")
                    await submit(self._scene, fleet, chunks[-1])
                await asyncio.gather(*self._resuming)
                await until(self._scene.is_at_rest, within_s=120, what="rest after the kills")
                exit_codes = await self._crew.end_warmly()
            finally:
                for task in self._resuming:
                    task.cancel()
                for worker in (*self._crew.workers.values(), *self._paused.values()):
                    worker.kill()
        evidence, duration_s = await self._scene.evidence(), time.monotonic() - began
        cap = self._scene.settings.delivery_cap
        return Report(self._plan, evidence, duration_s, exit_codes, tuple(self._held_jobs), cap)

    async def _submit_and_strike(
        self, fleet: AsyncFleet, strike: str, jobs: list[Job], *, spare: list[Job]
    ) -> None:
        """Strike after a random number of calls; for a held take some jobs are kept, so that it finds any."""
        self._crew.assert_none_has_ended()
        at_once = jobs[: len(jobs) // 2] if strike == AT_A_TAKE else jobs
        goal = await self._scene.calls_made() + self._dice.randint(1, max(1, len(at_once) // 2))
        await submit(self._scene, fleet, at_once)
        await until(partial(self._has_made, goal), within_s=60, what="the next calls")
        if strike == AT_A_TAKE:
            await self._kill_worker_at_a_take(
                partial(submit, self._scene, fleet), jobs[len(at_once) :], spare=spare
            )
        else:
            await self._do[strike]()

    def _strikes(self) -> list[str]:
        plan = self._plan
        strikes = ["worker killed"] * plan.worker_kills + ["worker paused"] * plan.worker_pauses
        strikes += ["broker killed"] * plan.broker_kills + [AT_A_TAKE] * plan.held_reply_kills
        self._dice.shuffle(strikes)
        return strikes

    async def _has_made(self, calls: int) -> bool:
        """A random distance to the last strike, in calls that the provider has got."""
        return await self._scene.calls_made() >= calls or await self._scene.is_at_rest()

    async def _kill_worker(self) -> None:
        """Kill one that has jobs in hand, and start another."""
        await self._crew.kill(await until(self._one_at_work, within_s=60, what="a worker at work"))

    async def _kill_worker_at_a_take(
        self, submit: Callable[[list[Job]], Awaitable[None]], jobs: list[Job], *, spare: list[Job]
    ) -> None:
        """Kill one whose take has run in the server, and which has not got the reply; start another."""
        async with self._held_takes.one_of(self._crew.workers, submit, jobs, spare=spare) as held:
            await self._crew.kill(held.worker)
            self._held_jobs.append(len(held.jobs))

    async def _pause_worker(self) -> None:
        """Stop one that has jobs in hand for longer than its lease; it is fenced when it goes on."""
        name = await until(self._one_at_work, within_s=60, what="a worker at work")
        worker = self._paused[name] = self._crew.workers.pop(name)
        worker.send(signal.SIGSTOP)
        self._scene.in_flight_at_pauses |= await self._crew.in_flight_in(name)
        self._resuming.append(asyncio.create_task(self._resume(name)))

    async def _resume(self, name: str) -> None:
        """Its jobs are another worker's by then."""

        async def is_fenced() -> bool:
            try:
                holders = await self._scene.holders()
            except redis.exceptions.RedisError:
                return False  # the broker is away, too
            return name not in {holder for holder, _tag in holders.values()}

        try:
            await until(is_fenced, within_s=60, what="the end of the paused worker's leases")
        finally:
            worker = self._crew.workers[name] = self._paused.pop(name)
            worker.send(signal.SIGCONT)

    async def _one_at_work(self) -> str | None:
        """One that has jobs in hand; any, when there is nothing to do."""
        holders = {holder for holder, _tag in (await self._scene.holders()).values()}
        workers = self._crew.workers
        at_work = sorted(holders & set(workers))
        if not at_work and workers and await self._scene.is_at_rest():
            at_work = sorted(workers)
        return self._dice.choice(at_work) if at_work else None

    async def _kill_broker(self) -> None:
        """Kill it, let the workers miss it for a moment, and start it again from its AOF."""
        self._valkey.kill()
        await self._crew.restart_broker()


def _job(dice: random.Random, number: int) -> Job:
    """Mostly plain questions of different lengths and latencies; some go wrong in a way that the fleet can mend."""
    kind = dice.choices(["plain", "repeated", DOWN, SLOW, BUSY], [80, 5, 7, 4, 4])[0]
    words = "please " * dice.randint(1, 60)
    text = f"{words} [{dice.choice(LATENCIES_MS)} ms] question {number} of {dice.getrandbits(32)}"
    if kind == "repeated":
        text = f"the same question {dice.randint(1, 5)}"
    elif kind != "plain":
        text = f"{kind} {words} question {number} of {dice.getrandbits(32)}"
    return Job(
        job_id=uuid7(),
        tenant=dice.choice(TENANTS),
        task="ask",
        messages=[Message(role="user", content=text)],
        lane=dice.choices(["interactive", "batch"], [70, 30])[0],
        priority=dice.randint(0, 9),
    )


def _chunks(jobs: list[Job], number: int) -> list[list[Job]]:
    """Parts of about the same size."""
    return [jobs[index::number] for index in range(number)]

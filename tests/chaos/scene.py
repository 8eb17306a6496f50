"""One fleet of a test's own (a namespace, a ledger, a twin), and all that is left of it when it has come to rest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import httpx
import redis.asyncio
import redis.exceptions

from producer_sdk.contract import Job
from producer_sdk.contract.envelope import pack
from producer_sdk.lanes import Lanes
from producer_sdk.settings import FleetSettings, redis_url
from tests.chaos.books import Evidence
from tests.chaos.forks import ForkedWorker
from tests.chaos.ledger_rows import LedgerRows
from worker.budget.store import BudgetStore
from worker.errors import BudgetUnavailable
from worker.settings import WorkerSettings

ROUTING = Path(__file__).with_name("routing.yaml")
TTL_S = 3600


async def until(condition: Callable[[], Any], *, within_s: float = 20.0, what: str = "the condition") -> Any:
    """Poll until `condition()`, or what it awaits, is truthy and return it; fail after `within_s`."""
    value = await found_within(within_s, condition)
    if not value:
        raise AssertionError(f"{what} did not come true within {within_s:g} s")
    return value


async def found_within(seconds: float, condition: Callable[[], Any]) -> Any:
    """The same, except that after `seconds` it is None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.05)
    return None


def settings_for(folder: Path, *, broker_url: str, namespace: str, **changes: Any) -> WorkerSettings:
    """A worker's settings with short leases; `changes` goes over them."""
    usual: dict[str, Any] = {
        "fleet": FleetSettings(broker_url=broker_url, namespace=namespace, result_ttl_s=TTL_S),
        "ledger_url": f"sqlite:///{folder / 'ledger.sqlite'}",
        "routing_path": ROUTING,
        "home": folder,
        "worker_name": "w",
        "slots": 50,
        "lease_s": 1.5,
        "shutdown_grace_s": 5.0,
    }
    return WorkerSettings(**(usual | changes))


class Scene:
    """`async with`. What workers did before and after kills is seen from outside: Redis, SQL and the twin's books."""

    def __init__(self, settings: WorkerSettings) -> None:
        assert settings.local_url
        self.settings = settings
        self.accepted: set[str] = set()
        self.workers: list[ForkedWorker] = []
        self.in_flight_at_kills: set[str] = set()
        self.in_flight_at_pauses: set[str] = set()
        self.broken_by_tests = 0
        self.redis = redis.asyncio.Redis.from_url(redis_url(settings.fleet.broker_url))
        self.lanes = Lanes(self.redis, namespace=settings.fleet.namespace)
        self.store = BudgetStore(self.redis, namespace=settings.fleet.namespace)
        self.rows = LedgerRows(settings.ledger_url)
        self.twin = httpx.AsyncClient(base_url=settings.local_url, trust_env=False, timeout=20)
        self._calls_before = 0

    async def __aenter__(self) -> Scene:
        self._calls_before = max((call["number"] for call in await self.calls()), default=0)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.twin.aclose()
        await self.redis.aclose()
        self.rows.close()

    @property
    def said(self) -> str:
        """All that this scene's workers have written."""
        return "".join(worker.log for worker in self.workers)

    @property
    def logs(self) -> str:
        """What this scene's workers have warned of."""
        lines = (line[:1000] for line in self.said.splitlines() if line.startswith("{"))
        return "\n".join(line for line in lines if '"INFO"' not in line)

    def end_workers(self) -> None:
        """SIGKILL those that still run."""
        for worker in self.workers:
            worker.kill()

    async def put(self, *jobs: Job, batch_id: UUID | None = None) -> None:
        """Put jobs straight into their lanes, as lines of a batch where that is said."""
        replies = await self.lanes.put([pack(job, batch_id=batch_id) for job in jobs], ttl_s=TTL_S)
        assert {reply.outcome for reply in replies} == {"accepted"}
        self.accepted |= {reply.job_id for reply in replies}

    async def behave(self, *rules: dict[str, Any]) -> None:
        """What the twin does wrong from now on."""
        answer = await self.twin.post("/twin/behave", json=list(rules))
        assert answer.status_code == 200, answer.text

    async def calls(self) -> list[dict[str, Any]]:
        """The twin's calls since this scene began."""
        answer = await self.twin.get("/twin/books", params={"after": self._calls_before})
        calls: list[dict[str, Any]] = answer.json()["calls"]
        return calls

    async def calls_made(self) -> int:
        """How many calls the twin has got."""
        books = await self.twin.get("/twin/books", params={"after": 10**12})
        return int(books.json()["totals"]["calls"])

    async def open_calls(self, *, after: int) -> set[str]:
        """The attempts whose calls the twin has not ended, among those since call number `after`."""
        books = await self.twin.get("/twin/books", params={"after": after})
        return {str(call["attempt"]) for call in books.json()["calls"] if call["finished"] == "open"}

    async def holders(self) -> dict[str, tuple[str, str]]:
        """Which worker holds each unacked job, and under which tag."""
        root = self.lanes.keys.root
        jobs = [job_id.decode() for job_id in await self.redis.zrange(root + "unacked", 0, -1)]
        found = [await self.redis.hmget(f"{root}job:{job_id}", "worker", "tag") for job_id in jobs]
        return {
            job_id: (worker.decode(), tag.decode())
            for job_id, (worker, tag) in zip(jobs, found, strict=True)
            if worker and tag
        }

    async def has_no_lease(self) -> bool:
        """Whether every job in a worker's hands may be given to another one; beats, as the rest of a fleet would."""
        await self.lanes.beat([], lease_ms=int(self.settings.lease_s * 1000))
        seconds, microseconds = await self.redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        return not await self.redis.zcount(self.lanes.keys.root + "unacked", now_ms, "+inf")

    async def result(self, job_id: object) -> dict[str, Any] | None:
        """What Celery's result backend has for this job."""
        found = await self.redis.get(self.lanes.keys.result(str(job_id)))
        meta: dict[str, Any] | None = json.loads(found) if found else None
        return meta

    async def ended(self, job_id: object, *, within_s: float = 20.0) -> dict[str, Any]:
        """The JobResult of a job, as soon as it is there."""
        meta = await until(lambda: self.result(job_id), within_s=within_s, what=f"the result of job {job_id}")
        found: dict[str, Any] = meta["result"]
        return found

    async def without_result(self) -> list[str]:
        """The accepted jobs whose result is not there."""
        jobs = sorted(self.accepted)
        results = await self.redis.mget([self.lanes.keys.result(job_id) for job_id in jobs])
        return [job_id for job_id, result in zip(jobs, results, strict=True) if result is None]

    async def is_at_rest(self) -> bool:
        """Every job has its result, nothing is in flight, held or unconfirmed, and no call is open."""
        try:
            counts = await self.lanes.counts()
            if counts.pending or counts.delayed or counts.running or counts.closing:
                return False
            keys = [self.lanes.keys.result(job_id) for job_id in self.accepted]
            if keys and await self.redis.exists(*keys) < len(keys):
                return False
            if self.rows.unfinished() or await self.store.holds(grace_ms=0, limit=1):
                return False
            if await self.store.batches(grace_ms=0, limit=1):
                return False
        except (redis.exceptions.RedisError, BudgetUnavailable):
            return False
        return not any(call["finished"] == "open" for call in await self.calls())

    async def evidence(self) -> Evidence:
        """All that is left, for the books to be compared."""
        attempts = self.rows.attempts()
        windows = sorted({window for row in attempts.values() for window in row.windows})
        counts = await self.lanes.counts()
        return Evidence(
            accepted=frozenset(self.accepted),
            results=await self._results(self.accepted),
            finals=self.rows.finals(),
            attempts=attempts,
            events=self.rows.events(),
            calls=tuple(await self.calls()),
            windows=(await self.store.standing(windows)).windows,
            holds=len(await self.store.holds(grace_ms=0)),
            unmirrored=self.rows.unmirrored(),
            lanes={"pending": counts.pending, "delayed": counts.delayed, "unacked": counts.running}
            | {"closing": counts.closing},
            given_up=counts.dead,
            in_flight_at_kills=len(self.in_flight_at_kills),
            in_flight_at_pauses=len(self.in_flight_at_pauses - self.in_flight_at_kills),
            broken_by_tests=self.broken_by_tests,
        )

    async def _results(self, job_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        found = {job_id: await self.result(job_id) for job_id in job_ids}
        return {job_id: meta for job_id, meta in found.items() if meta}

"""One tenant's money in a test: a real ledger, real books in Redis, and workers that stop wherever a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import redis.asyncio
import sqlalchemy

from producer_sdk.contract import Job, Message, Usage
from producer_sdk.lanes import Lanes
from worker.books import Books, Reaper, install
from worker.budget import rules
from worker.budget.rules import WindowLimit
from worker.budget.store import BatchName, BudgetStore, Refused, Reserved, Settled
from worker.errors import JournalRefused
from worker.job_run import Answer, Attempt, JobRun, Lease, PlannedCall
from worker.ledger.ledger import Ledger, RebuildSums, Settlement
from worker.rate_card import RateCard
from worker.routing_file import Deployment, Provider, RoutingFile, TaskRule, Tenant, Tier

LIMIT = 100
CARD = RateCard.flat("small", "routing.yaml", input=1, output=1, cache_read=1, cache_write=1)
DEPLOYMENT = Deployment("twin/small", Provider("twin", "openai", "http://twin"), "small", 8000, 1000)


def attempt_of(worst_pico: int, *, limit_pico: int = LIMIT, tag: str = "gone") -> Attempt:
    """An attempt of acme, whose daily budget is so many pico-dollars, on a delivery that nobody holds."""
    tier = Tier("free", daily_budget_usd=Decimal(limit_pico).scaleb(-12))
    job_run = JobRun(
        job=Job(tenant="acme", task="classify_intent", messages=[Message(role="user", content="hello")]),
        lease=Lease(tag, confirmed_until=float("inf")),
        routing=RoutingFile("1", {}, {}, {}, {}, {}),
        message=b"the message as it came",
        tenant=Tenant("acme", tier),
        task=TaskRule("classify_intent", "small"),
    )
    return Attempt(
        job_run=job_run, call=PlannedCall(DEPLOYMENT, "small", CARD, worst_pico), number=1, timeout_s=10
    )


async def no_runs(_job: Job) -> tuple[str, ...]:
    """No run is above another."""
    return ()


def told_nobody(**_soft_limit: object) -> None:
    """Who does not care for soft limits."""


def answer_costing(pico: int) -> Answer:
    """What a provider says when the call took so many tokens, each a pico-dollar."""
    usage = Usage(input_tokens=pico)
    return Answer("yes", usage, "small", "twin", "twin/small", cost_pico=pico, latency_ms=1)


class SqlRow(NamedTuple):
    """A row of the journal; `windows` is the text in the database."""

    attempt_id: UUID
    state: str
    amount_pico: int
    windows: str
    is_mirrored: bool
    is_line: bool


@dataclass
class Desk:
    """A ledger and the books, and the steps of an attempt one by one."""

    ledger: Ledger
    store: BudgetStore
    lanes: Lanes
    redis: redis.asyncio.Redis
    namespace: str
    url: str
    windows_seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._engine = sqlalchemy.create_engine(self.url)
        self._work_with(self.store)

    def _work_with(self, store: BudgetStore) -> None:
        self.store = store
        self.books = Books(ledger=self.ledger, store=self.store)
        self.reaper = Reaper(
            ledger=self.ledger,
            store=self.store,
            lanes=self.lanes,
            books=self.books,
            grace_s=-1.0,  # at once: as if everyone had been dead for long
            retention=timedelta(days=1),
        )

    async def reserve(
        self,
        attempt: Attempt,
        *,
        windows: tuple[WindowLimit, ...] | None = None,
        batch: BatchName | None = None,
    ) -> bool:
        """Step 1; True when it was admitted."""
        windows = (
            rules.windows(attempt.job_run.known_tenant(), attempt.created_at) if windows is None else windows
        )
        self.windows_seen.update(window.name for window in windows)
        amount = attempt.call.highest_pico
        reply = await self.store.reserve(attempt.id, amount_pico=amount, windows=windows, batch=batch)
        if isinstance(reply, Reserved):
            attempt.epoch, attempt.windows = reply.epoch, rules.charged(windows, reply.covered)
            attempt.batch_id = batch.id if batch and reply.covered else None
            return True
        assert isinstance(reply, Refused), reply
        return False

    async def journal(self, attempt: Attempt) -> bool:
        """Step 2; False when it was refused."""
        try:
            await self.ledger.journal(attempt, worst_pico=attempt.call.highest_pico)
        except JournalRefused:
            return False
        return True

    async def settle_in_sql(self, attempt: Attempt, pico: int, *, state="settled") -> None:
        """Step 4."""
        await self.ledger.settle(attempt, Settlement(state, pico, model="small"))

    async def settle_in_redis(
        self, attempt_id: UUID, pico: int, *, returns_share: bool = False
    ) -> Settled | None:
        """Step 5."""
        reply = await self.store.settle(attempt_id, amount_pico=pico, returns_share=returns_share)
        return reply if isinstance(reply, Settled) else None

    async def whole(self, worst_pico: int, pico: int) -> Attempt:
        """An attempt from its reservation to its mirror, with nothing in between."""
        attempt = attempt_of(worst_pico)
        assert await self.reserve(attempt)
        assert await self.journal(attempt)
        await self.settle_in_sql(attempt, pico)
        settled = await self.settle_in_redis(attempt.id, pico)
        assert settled
        await self.ledger.mirrored({attempt.id: (settled.epoch, pico)})
        return attempt

    async def sums(self) -> RebuildSums:
        """The first half of a rebuild."""
        since = datetime.now(UTC) - timedelta(days=3)
        return await self.ledger.rebuild_sums(since=since, above=await self.store.newest_epoch())

    async def install(self, sums: RebuildSums) -> bool:
        """The second half."""
        return await install(self.store, sums)

    async def flush(self) -> None:
        """FLUSHALL, for this test's keys alone."""
        keys = [key async for key in self.redis.scan_iter(f"{self.namespace}:*")]
        if keys:
            await self.redis.delete(*keys)

    def restart(self, *, run_id: str) -> None:
        """The server has another run id, and still has whatever it had."""
        self._work_with(BudgetStore(self.redis, namespace=self.namespace, run_id_override=run_id))

    async def expire(self, attempt_id: UUID) -> None:
        """Let the record of a settled attempt expire."""
        epoch = (await self.store.standing()).epoch
        assert await self.redis.delete(f"{self.namespace}:{{fleet}}:budget:{epoch}:a:{attempt_id}")

    def rows(self) -> list[SqlRow]:
        """Every attempt of the journal, straight from SQL; in flight it counts at its worst case."""
        statement = (
            "SELECT id, state, CASE state WHEN 'in_flight' THEN worst_pico ELSE cost_pico END, windows, "
            "mirrored_epoch IS NOT NULL, batch_id IS NOT NULL FROM llm_attempts"
        )
        with self._engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(statement)).all()
        return [SqlRow(UUID(str(key)), *rest[:3], *map(bool, rest[3:])) for key, *rest in found]

    def left_of_batches(self, window: str | None = None) -> int:
        """What open batches hold in a window (or in all): what their lines have not drawn."""
        statement = (
            "SELECT windows, reserved_pico, (SELECT coalesce(sum(CASE WHEN state IN ('failed', 'void') THEN cost_pico "
            "ELSE worst_pico END), 0) FROM llm_attempts WHERE batch_id = llm_batches.id) "
            "FROM llm_batches WHERE state = 'open'"
        )
        with self._engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(statement)).all()
        return sum(
            max(0, total - drawn) for windows, total, drawn in found if window is None or window in windows
        )

    def counted(self, window: str | None = None) -> int:
        """What SQL counts in a window (or in all): settled, uncertain, in flight at its worst case, left of batches."""
        rows = sum(row.amount_pico for row in self.rows() if window is None or window in row.windows)
        return rows + self.left_of_batches(window)

    def states(self) -> list[str]:
        """The states of all attempts."""
        return sorted(row.state for row in self.rows())

    async def come_to_rest(self) -> None:
        """Every worker is dead: let the reaper do its rounds, and check that Redis says what SQL says."""
        await self.books.rebuild()
        for _ in range(3):
            await self.reaper.reap()
        for window in self.windows_seen:
            assert await self.store.window(window) == (self.counted(window), 0), window
        assert await self.store.holds(grace_ms=-60_000) == []
        assert await self.store.batches(grace_ms=-60_000) == []
        assert "in_flight" not in self.states()
        assert await self.ledger.unmirrored() == []

    async def close(self) -> None:
        """Give back the ledger's thread and this desk's own connection."""
        await self.ledger.close()
        self._engine.dispose()


def open_desk(connection: redis.asyncio.Redis, namespace: str, url: str, **store_options) -> Desk:
    """A desk on a database that is migrated already."""
    ledger = Ledger(url)
    ledger.start()
    store = BudgetStore(connection, namespace=namespace, **store_options)
    return Desk(ledger, store, Lanes(connection, namespace=namespace), connection, namespace, url)

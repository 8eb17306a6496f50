"""HoldBudget on a real Valkey: what it does around the journal and the call, and where it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest
import redis.asyncio

from producer_sdk.contract import Job, Usage, uuid7
from tests.servers import Valkey
from tests.worker.money_desk import no_runs, told_nobody
from worker.budget.rules import windows
from worker.budget.step import HoldBudget
from worker.budget.store import BatchName, BudgetStore
from worker.errors import FailureKind, HandBack, JobStopped, JournalRefused, LedgerUnavailable, ProviderError
from worker.job_run import Answer, Attempt
from worker.routing_file import Budget

ANSWER = Answer("yes", Usage(), "small", "twin", "twin/small", cost_pico=7, latency_ms=1)


class Journal:
    """Stands where JournalAttempt does: keeps what it saw, and settles or refuses as it is told."""

    def __init__(
        self,
        *,
        settles: int | None = 7,
        refuses: int = 0,
        raises: BaseException | None = None,
        runs: tuple[str, ...] = (),
    ):
        self.runs = runs
        self.soft_limits: list[tuple[object, ...]] = []
        self.settles, self.refuses, self.raises = settles, refuses, raises
        self.saw: list[Attempt] = []
        self.mirrored_rows: dict[UUID, tuple[int, int]] = {}
        self.rebuilds = 0

    async def proceed(self, attempt: Attempt) -> Answer:
        self.saw.append(attempt)
        if len(self.saw) <= self.refuses:
            raise JournalRefused("its epoch has passed")
        attempt.settled_pico = self.settles
        if self.raises:
            raise self.raises
        return ANSWER

    async def mirrored(self, rows: Mapping[UUID, tuple[int, int]]) -> None:
        self.mirrored_rows.update(rows)

    async def rebuild(self) -> None:
        self.rebuilds += 1

    def step(self, store: BudgetStore) -> HoldBudget:
        return HoldBudget(
            store=store,
            rebuild=self.rebuild,
            mirrored=self.mirrored,
            runs=self.runs_of,
            warn=self.warn,
        )

    async def runs_of(self, _job: Job) -> tuple[str, ...]:
        return self.runs

    def warn(self, **soft_limit: object) -> None:
        self.soft_limits.append(tuple(soft_limit.values()))


async def today(store: BudgetStore, attempt: Attempt) -> tuple[int, int]:
    (window,) = windows(attempt.job_run.known_tenant(), attempt.created_at)
    return await store.window(window.name)


async def test_an_attempt_is_held_while_it_is_called_and_settled_at_its_cost(store, attempt_of):
    journal, attempt = Journal(), attempt_of(30)
    assert await journal.step(store).run(attempt, journal.proceed) is ANSWER
    assert (attempt.epoch, len(attempt.windows)) == (1, 1)
    assert await today(store, attempt) == (7, 0)
    assert journal.mirrored_rows == {attempt.id: (1, 7)}


async def test_a_tenant_without_a_budget_needs_no_redis(attempt_of):
    nowhere = BudgetStore(redis.asyncio.Redis(unix_socket_path="/nonexistent"))
    journal, attempt = Journal(), attempt_of(30, budget_usd=None)
    assert await journal.step(nowhere).run(attempt, journal.proceed) is ANSWER
    assert (attempt.epoch, attempt.windows, journal.mirrored_rows) == (0, (), {})


async def test_a_failed_call_settles_what_it_cost(store, attempt_of):
    failure = ProviderError(FailureKind.SERVER_ERROR, "the provider answered 500")
    journal, attempt = Journal(settles=0, raises=failure), attempt_of(30)
    with pytest.raises(ProviderError):
        await journal.step(store).run(attempt, journal.proceed)
    assert await today(store, attempt) == (0, 0)


async def test_a_cancelled_call_settles_what_the_journal_booked(store, attempt_of):
    journal, attempt = Journal(settles=30, raises=asyncio.CancelledError()), attempt_of(30)
    with pytest.raises(asyncio.CancelledError):
        await journal.step(store).run(attempt, journal.proceed)
    assert await today(store, attempt) == (30, 0)


async def test_what_sql_has_not_settled_keeps_its_hold(store, attempt_of):
    journal, attempt = Journal(settles=None, raises=LedgerUnavailable("away")), attempt_of(30)
    with pytest.raises(LedgerUnavailable):
        await journal.step(store).run(attempt, journal.proceed)
    assert await today(store, attempt) == (0, 30)


async def test_a_refused_attempt_is_freed_and_reserved_anew_under_another_id(store, attempt_of):
    journal, attempt = Journal(refuses=2), attempt_of(30)
    assert await journal.step(store).run(attempt, journal.proceed) is ANSWER
    assert len({seen.id for seen in journal.saw}) == 3
    assert journal.rebuilds == 2
    assert await today(store, attempt) == (7, 0)


async def test_an_attempt_that_is_always_refused_goes_back_to_its_lane(store, attempt_of):
    journal, attempt = Journal(refuses=99), attempt_of(30)
    with pytest.raises(HandBack):
        await journal.step(store).run(attempt, journal.proceed)
    assert len(journal.saw) == 3
    assert await today(store, attempt) == (0, 0)


async def test_a_spent_budget_stops_the_job_before_anything_is_called(store, attempt_of):
    journal = Journal(settles=80)
    await journal.step(store).run(attempt_of(100), journal.proceed)
    with pytest.raises(JobStopped) as stopped:
        await journal.step(store).run(attempt_of(21), journal.proceed)
    error = stopped.value.error
    assert (error.code, error.reason, error.retryable) == ("budget_exceeded", "window_spent", False)
    assert error.resets_at is not None
    assert len(journal.saw) == 1


async def test_missing_books_are_rebuilt_before_anything_is_admitted(client, namespace, attempt_of):
    store, journal = BudgetStore(client, namespace=namespace), Journal()

    async def rebuild() -> None:
        await store.install(epoch=4, settled={}, holds=[])

    step = HoldBudget(store=store, rebuild=rebuild, mirrored=journal.mirrored, runs=no_runs, warn=told_nobody)
    attempt = attempt_of(30)
    await step.run(attempt, journal.proceed)
    assert attempt.epoch == 4


async def test_books_that_stay_missing_send_the_job_back(client, namespace, attempt_of):
    journal = Journal()
    with pytest.raises(HandBack, match="rebuilt"):
        await journal.step(BudgetStore(client, namespace=namespace)).run(attempt_of(30), journal.proceed)
    assert (journal.rebuilds, journal.saw) == (3, [])


async def test_a_ledger_that_is_away_during_a_rebuild_sends_the_job_back(client, namespace, attempt_of):
    async def away() -> None:
        raise LedgerUnavailable("away")

    journal, store = Journal(), BudgetStore(client, namespace=namespace)
    step = HoldBudget(store=store, rebuild=away, mirrored=journal.mirrored, runs=no_runs, warn=told_nobody)
    with pytest.raises(HandBack, match="cannot be checked"):
        await step.run(attempt_of(30), journal.proceed)


async def test_a_broker_that_is_away_admits_nothing(own_valkey: Valkey, attempt_of):
    connection = redis.asyncio.Redis.from_url(own_valkey.redis_url)
    own_valkey.kill()
    journal = Journal()
    with pytest.raises(HandBack) as handed_back:
        await journal.step(BudgetStore(connection, timeout_s=1)).run(attempt_of(30), journal.proceed)
    assert (handed_back.value.delay_ms, journal.saw) == (1000, [])
    await connection.aclose()


async def test_a_broker_that_dies_during_the_call_costs_no_answer(own_valkey: Valkey, attempt_of):
    connection = redis.asyncio.Redis.from_url(own_valkey.redis_url)
    store = BudgetStore(connection, timeout_s=1)
    await store.install(epoch=1, settled={}, holds=[])

    class Dying(Journal):
        async def proceed(self, attempt: Attempt) -> Answer:
            own_valkey.kill()
            return await super().proceed(attempt)

    journal = Dying()
    assert await journal.step(store).run(attempt_of(30), journal.proceed) is ANSWER
    assert journal.mirrored_rows == {}
    await connection.aclose()


async def test_a_ledger_that_dies_before_the_mirror_costs_no_answer(store, attempt_of):
    async def away(_rows: Mapping[UUID, tuple[int, int]]) -> None:
        raise LedgerUnavailable("away")

    journal, attempt = Journal(), attempt_of(30)
    step = HoldBudget(store=store, rebuild=journal.rebuild, mirrored=away, runs=no_runs, warn=told_nobody)
    assert await step.run(attempt, journal.proceed) is ANSWER
    assert await today(store, attempt) == (7, 0)


async def test_the_fleets_own_limit_stops_a_tenant_that_has_money_left(store, attempt_of):
    attempt = attempt_of(21)
    run = attempt.job_run
    run.routing = replace(run.routing, fleet=Budget(Decimal("0.00000000002"), None))  # 20 pico-dollars
    journal = Journal()
    with pytest.raises(JobStopped) as stopped:
        await journal.step(store).run(attempt, journal.proceed)
    assert (stopped.value.error.code, stopped.value.error.reason) == ("budget_exceeded", "never_fits")
    assert journal.saw == []
    assert await today(store, attempt) == (0, 0), "all windows or none"


async def test_a_run_and_its_parent_share_the_calls_of_a_child(store, attempt_of):
    attempt = attempt_of(30)
    tier = replace(attempt.job_run.known_tenant().tier, run_budget_usd=Decimal("0.00000000004"))
    attempt.job_run.tenant = replace(attempt.job_run.known_tenant(), tier=tier)
    attempt.job_run.job = attempt.job_run.job.model_copy(
        update={"run_id": "child", "parent_run_id": "parent"}
    )
    journal = Journal(runs=("child", "parent"))
    await journal.step(store).run(attempt, journal.proceed)
    assert await store.window("r:acme:child") == (7, 0)
    assert await store.window("r:acme:parent") == (7, 0)


async def test_who_watches_is_told_of_a_soft_limit_before_a_call_and_by_a_refusal(store, attempt_of):
    attempts = [attempt_of(amount) for amount in (90, 1, 50)]
    for attempt in attempts:
        tier = replace(attempt.job_run.known_tenant().tier, soft_limit=(80,))
        attempt.job_run.tenant = replace(attempt.job_run.known_tenant(), tier=tier)
    journal = Journal(settles=90)
    await journal.step(store).run(attempts[0], journal.proceed)
    assert journal.soft_limits == []
    journal.settles = 1
    await journal.step(store).run(attempts[1], journal.proceed)
    (window,) = attempts[1].windows
    assert journal.soft_limits == [(window, "t:acme:d", 80)]
    with pytest.raises(JobStopped):
        await journal.step(store).run(attempts[2], journal.proceed)
    assert len(journal.soft_limits) == 1


async def test_a_job_of_a_batch_draws_on_it(store, attempt_of):
    attempt, batch = attempt_of(60), BatchName("acme", uuid7())
    limits = windows(attempt.job_run.known_tenant(), attempt.created_at)
    await store.open_batch(batch, amount_pico=100, windows=limits, now=attempt.created_at)
    attempt.job_run.batch_id = batch.id
    journal = Journal()
    await journal.step(store).run(attempt, journal.proceed)
    assert journal.saw[0].batch_id == batch.id
    assert [event.facts["batch"] for event in attempt.job_run.story.told] == [str(batch.id)]
    assert await today(store, attempt) == (7, 40)

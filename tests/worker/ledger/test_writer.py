"""The writing thread: group commit, faults of the database, one bad operation among good ones, its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from producer_sdk.contract import Straight
from tests.worker.ledger.writing import PAID, Sql, attempt_with, final_of, journalled, opened, run_with
from worker.errors import LedgerRefused, LedgerUnavailable
from worker.ledger.ledger import Ledger, Settlement
from worker.ledger.operations import Statement

T = TypeVar("T")
END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Counting(Straight):
    """Counts transactions; does each `times` times, as a client does whose reply was lost."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.names: list[str] = []

    def cross_blocking(self, name: str, do: Callable[[], T]) -> T:
        self.names.append(name)
        for _ in range(self.times - 1):
            do()
        return do()


async def test_what_waits_together_is_committed_together(url, sql):
    crossing = Counting()
    async with opened(url, crossing=crossing) as ledger:
        await asyncio.gather(*(journalled(ledger) for _ in range(150)))
    assert len(sql.attempts()) == 150
    assert set(crossing.names) == {"sql:commit"}
    assert len(crossing.names) <= 15  # a few when the machine is quiet; never one each


async def test_everything_may_be_done_twice(url, sql):
    """A commit whose reply was lost is repeated: nothing counts twice, and the answers are the same."""
    async with opened(url, crossing=Counting(times=2)) as ledger:
        run = run_with()
        attempt, final = attempt_with(run), final_of(run)
        await ledger.journal(attempt, worst_pico=1000)
        assert await ledger.settle(attempt, PAID, final=final) == final
        await ledger.mirrored({attempt.id: (0, 120)})
        lost, never = await journalled(ledger), attempt_with()
        assert [row.id for row in await ledger.mark_uncertain([lost.id])] == [lost.id]
        assert await ledger.void([never.id]) == [never.id]
        assert await ledger.finish(run, final_of(run, "other")) == final
    assert sorted(row.cost_pico for row in sql.attempts()) == [0, 120, 1000]
    assert len(sql.events()) == 2


async def test_one_operation_that_the_database_refuses_fails_alone(url, sql):
    async with opened(url) as ledger:
        good = [attempt_with() for _ in range(10)]
        refused = Statement(lambda _connection: {}["missing"], writes=True)
        outcomes = await asyncio.gather(
            ledger.journal(good[0], worst_pico=1),
            ledger._writer.do(refused),
            *(ledger.journal(attempt, worst_pico=1) for attempt in good[1:]),
            _journal_with_broken_windows(ledger),
            return_exceptions=True,
        )
    failed = [outcome for outcome in outcomes if outcome is not None]
    assert [type(outcome) for outcome in failed] == [LedgerRefused, LedgerRefused]
    assert {row.id for row in sql.attempts()} == {attempt.id for attempt in good}


async def _journal_with_broken_windows(ledger: Ledger) -> None:
    broken = attempt_with()
    broken.windows = (object(),)  # type: ignore[assignment]
    await ledger.journal(broken, worst_pico=1)


async def test_a_refusal_shows_nothing_of_the_row(url):
    async with opened(url) as ledger:
        with pytest.raises(LedgerRefused) as caught:
            await _journal_with_broken_windows(ledger)
    assert "message as it came" not in repr(caught.getrepr(chain=True))


async def test_text_that_a_database_cannot_store_is_mended(url, sql):
    run = run_with()
    run.job = run.job.model_copy(update={"feature": "a\0b", "run_id": "x" * 1000})
    async with opened(url) as ledger:
        attempt = await journalled(ledger, run)
        await ledger.settle(attempt, Settlement("settled", 1, model="bad\0\ud800model"))
    (row,) = sql.events()
    assert (row.feature_name, row.model_id, len(row.run_id)) == ("a\ufffdb", "bad\ufffd?model", 256)


async def test_numbers_that_no_column_takes_are_bounded(url, sql):
    async with opened(url) as ledger:
        attempt = await journalled(ledger)
        usage = PAID.usage.model_copy(update={"input_tokens": 10**15})
        await ledger.settle(attempt, Settlement("settled", 10**30, usage=usage, latency_ms=10**12))
    (row,) = sql.events()
    assert (row.input_tokens, row.latency_ms) == (2**31 - 1, 2**31 - 1)
    assert [row.cost_pico for row in sql.attempts()] == [4 * 10**18]


async def test_a_database_that_is_locked_for_a_while_is_waited_for(url, sql):
    async with opened(url, timeout_s=10) as ledger:
        with _locked(sql):
            journal = asyncio.ensure_future(journalled(ledger))
            done, _ = await asyncio.wait({journal}, timeout=0.3)
            assert not done
        await journal
    assert len(sql.attempts()) == 1


async def test_a_database_that_stays_locked_is_unavailable_in_time_and_serves_again(url, sql):
    async with opened(url, timeout_s=0.4) as ledger:
        with _locked(sql):
            began = asyncio.get_running_loop().time()
            with pytest.raises(LedgerUnavailable):
                await journalled(ledger)
            assert asyncio.get_running_loop().time() - began < 3
        attempt = await _as_soon_as_it_serves(ledger)
    assert attempt.id in {row.id for row in sql.attempts()}


async def _as_soon_as_it_serves(ledger: Ledger) -> Any:
    for _ in range(20):
        try:
            return await journalled(ledger)
        except LedgerUnavailable:
            continue
    raise AssertionError("the ledger did not come back")


def _locked(sql: Sql) -> Any:
    """A transaction that keeps the file, or the tables, until it ends."""
    transaction = sql.transaction()

    class Lock:
        def __enter__(self) -> None:
            connection = transaction.__enter__()
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE llm_attempts IN ACCESS EXCLUSIVE MODE")

        def __exit__(self, *error: Any) -> None:
            transaction.__exit__(*error)

    return Lock()


async def test_a_database_without_tables_says_what_to_do(ledger_url):
    async with opened(ledger_url, timeout_s=0.5) as ledger:
        with pytest.raises(LedgerUnavailable, match="fairlane migrate"):
            await ledger.epoch()


async def test_a_database_that_is_not_there_is_unavailable(tmp_path):
    async with opened(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.sqlite'}", timeout_s=0.3) as ledger:
        with pytest.raises(LedgerUnavailable):
            await ledger.epoch()


async def test_closing_writes_what_waits_first(url, sql):
    ledger = Ledger(url)
    ledger.start()
    waiting = [asyncio.ensure_future(journalled(ledger)) for _ in range(300)]
    await asyncio.sleep(0)
    await ledger.close()
    await asyncio.gather(*waiting)
    assert len(sql.attempts()) == 300
    with pytest.raises(LedgerUnavailable, match="not open"):
        await ledger.epoch()


async def test_an_operation_that_nobody_waits_for_any_more_is_left_out(url, sql):
    async with opened(url) as ledger:
        with _locked(sql):
            first = asyncio.ensure_future(journalled(ledger))
            await asyncio.wait({first}, timeout=0.1)
            second = asyncio.ensure_future(journalled(ledger))
            await asyncio.wait({second}, timeout=0.1)
            second.cancel()
        await first
    assert len(sql.attempts()) == 1


async def test_connections_that_the_server_ends_are_made_anew(postgres):
    url = postgres.new_database()
    Ledger(url).migrate()
    sql = Sql(url)
    async with opened(url) as ledger:
        await ledger.epoch()
        ended, wrote = 0, 0
        while ended < 4 and wrote < 1000:  # at some moments there is no connection to end
            writing = asyncio.gather(*(journalled(ledger) for _ in range(40)))
            ended += len(await asyncio.to_thread(sql.ask, END_OTHERS))
            wrote += len(await writing)
    assert ended >= 4
    assert len(sql.attempts()) == wrote
    sql.close()


async def test_a_server_that_hangs_is_given_up_and_the_line_cut(postgres):
    url = postgres.new_database()
    Ledger(url).migrate()
    async with opened(url, timeout_s=0.5) as ledger:
        backend = await ledger._writer.do(
            Statement(lambda connection: connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        )
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(LedgerUnavailable, match="did not answer"):
                await journalled(ledger)
            await _as_soon_as_it_serves(ledger)
        finally:
            os.kill(backend, signal.SIGCONT)


async def test_messages_that_are_large_do_not_share_one_statement(url, sql):
    crossing = Counting()
    async with opened(url, crossing=crossing) as ledger:
        runs = [run_with() for _ in range(8)]
        for run in runs:
            run.message = b"m" * 3 * 1024 * 1024
        await asyncio.gather(*(journalled(ledger, run) for run in runs))
    assert len(crossing.names) >= 3
    assert {len(job.message) for job in sql.jobs()} == {3 * 1024 * 1024}


async def test_a_result_that_a_newer_version_wrote_is_left_to_a_newer_worker(ledger, sql):
    run, other = run_with(), run_with()
    final = final_of(other)
    await ledger.finish(run, final_of(run))
    await ledger.finish(other, final)
    with sql.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE llm_jobs SET result = '{{\"new\": 1}}' WHERE job_id = '{run.job_id.hex}'"
        )
    known = await asyncio.gather(
        ledger.look_up(run.job_id), ledger.look_up(other.job_id), return_exceptions=True
    )
    assert isinstance(known[0], LedgerUnavailable)
    assert known[1].final == final
    with pytest.raises(LedgerUnavailable, match="newer version"):
        await ledger.finish(run, final_of(run))

"""Several worker processes on one database: they share it, and each may die in the middle of a transaction."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.servers import wait_until
from tests.worker.ledger.writing import Sql
from worker.ledger.tables import EVENTS

WRITES = textwrap.dedent(
    """
    import asyncio, sys
    from tests.worker.ledger.writing import PAID, final_of, journalled, opened, run_with

    async def one_job(ledger):
        run = run_with()
        attempt = await journalled(ledger, run)
        await ledger.settle(attempt, PAID, final=final_of(run))
        await ledger.mirrored({attempt.id: (0, 120)})

    async def main():
        async with opened(sys.argv[1]) as ledger:
            while True:
                await asyncio.gather(*(one_job(ledger) for _ in range(20)))
                print("wrote", flush=True)

    asyncio.run(main())
    """
)
MIGRATES = "import sys; from worker.ledger.ledger import Ledger; Ledger(sys.argv[1]).migrate()"


def started(code: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)


def test_processes_that_write_one_database_and_are_killed_leave_whole_jobs(url, sql):
    processes = [started(WRITES, url) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout
            for _ in range(3):
                assert process.stdout.readline() == "wrote\n"
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    wait_until(lambda: _is_unlocked(sql), what="the database's own clean-up")
    ended = [job for job in sql.jobs() if job.status is not None]
    settled = [row for row in sql.attempts() if row.state == "settled"]
    assert len(ended) >= 120
    assert {job.job_id for job in ended} == {row.job_id for row in settled}
    assert {row.id for row in sql.events()} == {row.id for row in settled}


def _is_unlocked(sql: Sql) -> bool:
    with sql.transaction() as connection:
        connection.execute(EVENTS.delete().where(EVENTS.c.tenant_id == "nobody"))
    return True


def test_workers_that_start_at_once_migrate_once(ledger_url):
    processes = [started(MIGRATES, ledger_url) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    sql = Sql(ledger_url)
    assert len(sql.ask("SELECT version_num FROM alembic_version")) == 1
    assert sql.ask("SELECT id, epoch FROM llm_epoch") == [(1, 0)]
    sql.close()

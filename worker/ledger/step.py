"""RecordJob and JournalAttempt: what SQL knows of a job and of each attempt, before and after."""

from __future__ import annotations

from worker.job_run import Answer, Attempt, JobRun, ProceedAttempt, ProceedJob
from worker.ledger.ledger import Ledger


class RecordJob:
    """Read the job's final row first; write it last, once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """The answer whose `standing` is the result to publish."""
        return await proceed(job_run)


class JournalAttempt:
    """Commit the attempt before its call; settle it after."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """The answer with its settled cost."""
        return await proceed(attempt)

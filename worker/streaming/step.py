"""StreamAnswer and StreamText: a job that asks for it has its answer published as it comes."""

from __future__ import annotations

from worker.job_run import Answer, Attempt, JobRun, ProceedAttempt, ProceedJob
from worker.streaming import rules
from worker.streaming.streams import Streams


class StreamAnswer:
    """Open the job's stream; at the end, say whatever of the final answer was not heard from a call."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """The answer, of which the stream says the same. Its end is written with the result."""
        if rules.when(job_run) == "never":
            return await proceed(job_run)
        writer = self._streams.open(job_run.lease.tag)
        try:
            answer = await proceed(job_run)
            standing = answer.standing or job_run.result_of(answer)
            if standing.status == "succeeded":
                await self._streams.conclude(writer, standing)
            return answer
        finally:
            self._streams.close(writer)


class StreamText:
    """Let a call be heard while it speaks, where no check may still refuse what it says."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """The answer, heard or not."""
        writer = self._streams.of(attempt.job_run.lease.tag)
        if writer is None or rules.when(attempt.job_run) != "live":
            return await proceed(attempt)
        attempt.heard = writer.listen_to(attempt.id, attempt.number)
        try:
            return await proceed(attempt)
        finally:
            writer.leave(attempt.id)

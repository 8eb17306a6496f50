"""ScreenContent: nothing untrusted reaches a model unscanned or unfenced."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from producer_sdk.contract import Finding
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, ProceedJob
from worker.safety.fence import fenced_messages, static_first
from worker.safety.rules import Verdict, scan
from worker.safety.screening import Untrusted, screen, untrusted_texts

LARGE_CHARACTERS = 100_000  # some 40 ms of scanning: more goes to a thread, one job after the other


class ScreenContent:
    """Scan tool results and documents, act as the tier says, and fence what goes on."""

    def __init__(self, *, fence_key: bytes) -> None:
        self._fence_key = fence_key
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="screen")

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped: unsafe_tool_result or unsafe_input."""
        job = job_run.job
        texts = untrusted_texts(job)
        screened = screen(texts, await self._scanned(texts), job_run.known_tenant().tier)
        job_run.findings.extend(screened.findings)
        job_run.story.note(
            "safety",
            "blocked" if screened.error else "screened",
            texts=len(texts),
            findings=[f"{found.rule} in {found.where}: {found.action}" for found in screened.findings]
            or None,
        )
        if screened.error:
            raise JobStopped(screened.error)
        fenced = fenced_messages(job.messages, job.documents, key=self._fence_key)
        job_run.messages, misplaced = static_first(fenced)
        if misplaced:
            job_run.findings.append(Finding(rule="cache_layout", where="messages", action="flagged"))
        return await proceed(job_run)

    async def _scanned(self, texts: Sequence[Untrusted]) -> list[Verdict]:
        if sum(len(untrusted.text) for untrusted in texts) <= LARGE_CHARACTERS:
            return scan_all(texts)
        return await asyncio.get_running_loop().run_in_executor(self._thread, scan_all, texts)


def scan_all(texts: Sequence[Untrusted]) -> list[Verdict]:
    """The verdict on each text, in order."""
    return [scan(untrusted.text, untrusted.channel) for untrusted in texts]

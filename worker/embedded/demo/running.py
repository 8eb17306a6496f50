"""Runs the demo's jobs through the SDK, as a product would, and hands over each result as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from uuid import UUID

from producer_sdk.client import Fleet
from producer_sdk.contract import Job, JobResult
from producer_sdk.errors import ResultTimeout

LOOK_UP_S = 2.0


def run_jobs(
    fleet: Fleet,
    jobs: Sequence[Job],
    *,
    within_s: float,
    on_result: Callable[[JobResult], None],
    check: Callable[[], None],
) -> dict[UUID, JobResult]:
    """Submit every job and wait for every result, in the order they end; `check` may raise to give up.

    Raises ResultTimeout when some job has not ended within `within_s`.
    """
    results: dict[UUID, JobResult] = {}
    waiting = {handle.job_id: handle for handle in fleet.submit_many(jobs, wait_s=within_s)}
    end = time.monotonic() + within_s
    while waiting:
        check()
        if time.monotonic() > end:
            raise ResultTimeout(f"{len(waiting)} of {len(jobs)} jobs did not end within {within_s:g} s")
        try:
            for handle in fleet.as_completed(list(waiting.values()), timeout=LOOK_UP_S):
                del waiting[handle.job_id]
                results[handle.job_id] = handle.wait()
                on_result(results[handle.job_id])
        except ResultTimeout:
            continue
    return results

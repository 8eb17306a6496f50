"""AnswerFromCache: the same question again is answered without a call."""

from __future__ import annotations

import asyncio
import time

from producer_sdk.contract import Usage, to_usd
from worker.cache import rules
from worker.cache.store import ExactCache, KeptAnswer
from worker.job_run import Answer, JobRun, ProceedJob

LARGE_BYTES = 100_000


class AnswerFromCache:
    """Look for a kept answer before the call, keep the new one after it."""

    def __init__(self, cache: ExactCache) -> None:
        self._cache = cache

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """The kept answer at no cost, or what the rest of the pipeline answers."""
        why_not = rules.why_not_from_cache(job_run)
        if why_not:
            job_run.story.note("cache", "not_asked", why=why_not)
            return await proceed(job_run)
        began = time.monotonic()
        key = await self._key(job_run)
        kept = await self._cache.get(key)
        saved = None if kept is None else f"{to_usd(kept.cost_pico):f}"
        job_run.story.note("cache", "miss" if kept is None else "hit", saved_usd=saved)
        if kept is not None:
            return given_again(kept, latency_ms=int((time.monotonic() - began) * 1000))
        answer = await proceed(job_run)
        if rules.may_keep(job_run, answer):
            await self._cache.put(key, KeptAnswer.of(answer), ttl_s=job_run.known_task().cache_ttl_s)
        return answer

    async def _key(self, job_run: JobRun) -> str:
        if len(job_run.message) > LARGE_BYTES:
            return await asyncio.to_thread(rules.cache_key, job_run)
        return rules.cache_key(job_run)


def given_again(kept: KeptAnswer, *, latency_ms: int) -> Answer:
    """A kept answer as the answer to another job: no tokens, no cost, its first cost saved."""
    return Answer(
        text=kept.text,
        usage=Usage(),
        model=kept.model,
        provider=kept.provider,
        deployment=kept.deployment,
        cost_pico=0,
        latency_ms=latency_ms,
        citations=kept.citations,
        data=kept.data,
        vectors=kept.vectors,
        cache="exact",
        saved_pico=kept.cost_pico,
    )

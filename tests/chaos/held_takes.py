"""Finds a take that the server has run and whose reply is still on its way, and asks the server what it handed out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from producer_sdk.contract import Job
from tests.chaos.reply_proxy import HeldReply, ReplyProxies
from tests.chaos.scene import Scene, found_within

JOBS_A_TRY = 4
TRY_S = 2.0
EMPTY_AFTER_S = 0.1  # its reply has come, and the server still knows of no job that it handed out


@dataclass(frozen=True)
class HeldTake:
    """These jobs are in the worker's hands, says the server; the worker does not know of them."""

    worker: str
    jobs: tuple[str, ...]


class HeldTakes:
    """Takes of one scene's workers, by their proxies."""

    def __init__(self, scene: Scene, proxies: ReplyProxies) -> None:
        self._scene = scene
        self._proxies = proxies

    @asynccontextmanager
    async def one_of(
        self,
        workers: Collection[str],
        submit: Callable[[list[Job]], Awaitable[None]],
        jobs: list[Job],
        *,
        spare: list[Job],
    ) -> AsyncIterator[HeldTake]:
        """Submit these jobs, and as many spare ones as it needs, until one of the workers takes some.

        Its reply is kept from it until the end of the block.
        """
        left = list(_parts(jobs))
        with self._proxies.holding():
            yield await self._first(workers, submit, left, spare)
        for part in left:
            await submit(part)

    async def _first(
        self,
        workers: Collection[str],
        submit: Callable[[list[Job]], Awaitable[None]],
        left: list[list[Job]],
        spare: list[Job],
    ) -> HeldTake:
        while left or spare:
            await submit(left.pop() if left else [spare.pop()])
            found = await found_within(TRY_S, lambda: self._full(workers))
            if found:
                return found
        raise AssertionError("no worker has taken any job")

    async def _full(self, workers: Collection[str]) -> HeldTake | None:
        """A held take that handed out jobs; the others' workers get their replies."""
        for held in self._proxies.held():
            jobs = await self._handed_out(held) if held.answered_at and held.worker in workers else ()
            if jobs and all(job_id.encode() in held.answer for job_id in jobs):
                return HeldTake(held.worker, jobs)
            if held.answered_at and time.monotonic() - held.answered_at > EMPTY_AFTER_S:
                self._proxies.let_go(held)
        return None

    async def _handed_out(self, held: HeldReply) -> tuple[str, ...]:
        """The unacked jobs that this take gave its worker."""
        server, root = self._scene.redis, self._scene.lanes.keys.root
        found = []
        for raw in await server.lrange(f"{root}take:{held.operation}", 0, -1):
            job_id = raw.decode()
            tag, worker = await server.hmget(f"{root}job:{job_id}", "tag", "worker")
            is_unacked = await server.zscore(root + "unacked", job_id) is not None
            if is_unacked and (tag, worker) == (f"{job_id}:{held.operation}".encode(), held.worker.encode()):
                found.append(job_id)
        return tuple(found)


def _parts(jobs: list[Job]) -> Iterator[list[Job]]:
    for start in range(0, len(jobs), JOBS_A_TRY):
        yield jobs[start : start + JOBS_A_TRY]

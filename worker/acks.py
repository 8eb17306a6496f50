"""How deliveries end: their acks in batches, and back into the lane where the server has forgotten them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import redis.exceptions

from producer_sdk.contract.envelope import BadMessage, entry_of
from producer_sdk.lanes import Finished
from worker.assembly import Assembly
from worker.delivery import HeldDelivery, patiently

logger = logging.getLogger(__name__)


class Acks:
    """Ends deliveries in batches: what comes while one batch is under way goes with the next."""

    def __init__(self, assembly: Assembly, freed: Callable[[HeldDelivery], None]) -> None:
        self._assembly = assembly
        self._freed = freed
        self._waiting: list[tuple[HeldDelivery, Finished]] = []
        self._flushing: asyncio.Task[None] | None = None

    def add(self, held: HeldDelivery, finished: Finished) -> None:
        """Queue an ack; one that was handed back only frees its slot."""
        if held.released:
            self._freed(held)
            return
        self._waiting.append((held, finished))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        await asyncio.sleep(0)
        while self._waiting:
            batch, self._waiting = self._waiting[:64], self._waiting[64:]
            items = [finished for _held, finished in batch]
            try:
                told = await patiently(lambda items=items: self._assembly.lanes.finish(items))  # type: ignore[misc]
                await self._put_back(
                    [held for (held, _), counts in zip(batch, told, strict=True) if not counts]
                )
            except redis.exceptions.RedisError:
                logger.exception(
                    "results were not written: their leases run out, and their final rows are published"
                )
            finally:
                for held, _finished in batch:
                    self._freed(held)

    async def _put_back(self, fenced: list[HeldDelivery]) -> None:
        """A server that was flushed knows nothing of the job: put back, it is answered from its final row."""
        if not fenced:
            return
        lanes = self._assembly.lanes
        states = await lanes.states([held.delivery.job_id for held in fenced])
        for held, state in zip(fenced, states, strict=True):
            if state.state == "unknown":
                await put_back(self._assembly, held)

    async def settled(self) -> None:
        """Wait until nothing is queued."""
        if self._flushing:
            await self._flushing


async def put_back(assembly: Assembly, held: HeldDelivery) -> None:
    """Into its lane again, however deep its queue is; a job that is known there stays as it is."""
    try:
        entry = entry_of(held.delivery.message)
    except BadMessage:
        return
    ttl_s = assembly.settings.fleet.result_ttl_s
    await patiently(lambda: assembly.lanes.put([entry], ttl_s=ttl_s, inside=True))

"""The streams that this worker writes: what many jobs have to say goes to Redis in few round trips."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import redis.exceptions

from producer_sdk.contract import JobResult
from producer_sdk.lanes import Lanes
from worker.streaming.writer import StreamWriter

EVERY_S = 0.05
A_STREAM_S = 0.0001  # more between two rounds for each stream that is open: 2,000 are told of every 0.2 s
AWAY_S = 0.2
LAST_WORDS_S = 1.0
MOST_WAITING_CHARACTERS = 65_536  # of a job, while the broker takes nothing
logger = logging.getLogger(__name__)


class Streams:
    """Writers by delivery. The first words go at once, then a round goes at most every EVERY_S.

    A broker that is slow or away holds up no call: what waits is bounded, and what is lost is the stream's alone.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._open: dict[str, StreamWriter] = {}
        self._unwritten: dict[str, StreamWriter] = {}
        self._hurry = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None
        self._is_away = False

    def open(self, tag: str) -> StreamWriter:
        """The writer of one delivery, until it is closed."""
        writer = StreamWriter(tag, most_waiting=MOST_WAITING_CHARACTERS, woken=self._woken)
        self._open[tag] = writer
        return writer

    def of(self, tag: str) -> StreamWriter | None:
        """The open writer of a delivery."""
        return self._open.get(tag)

    async def conclude(self, writer: StreamWriter, result: JobResult) -> None:
        """Say what is missing of the answer, and give it a moment to be written before the job's end is."""
        writer.conclude(result)
        self._hurry.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await writer.settled.wait()

    def close(self, writer: StreamWriter) -> None:
        """The delivery has ended here; what it still has to say is said if it can be."""
        writer.closed = True
        self._open.pop(writer.tag, None)

    def _woken(self, writer: StreamWriter) -> None:
        self._unwritten[writer.tag] = writer
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.get_running_loop().create_task(self._go_round())

    async def _go_round(self) -> None:
        while self._unwritten:
            writers, self._unwritten = list(self._unwritten.values()), {}
            self._hurry.clear()
            if await self._write(writers):
                await self._rest()
            else:
                await asyncio.sleep(AWAY_S)

    async def _write(self, writers: list[StreamWriter]) -> bool:
        """Whether the broker has answered. What it did not take goes with the next round."""
        taken = [(writer, item) for writer in writers if (item := writer.take())]
        if not taken:
            return True
        try:
            told = await self._lanes.append([item for _writer, item in taken])
        except redis.exceptions.RedisError as error:
            if not self._is_away:
                logger.warning("streams are not written to for now (%s)", type(error).__name__)
            self._is_away = True
            self._unwritten |= {writer.tag: writer for writer, _item in taken if not writer.closed}
            return False
        self._is_away = False
        for (writer, _item), is_live in zip(taken, told, strict=True):
            writer.appended(is_live=is_live)
            if writer.has_more:
                self._unwritten[writer.tag] = writer
        return True

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S + A_STREAM_S * len(self._open)):
                await self._hurry.wait()

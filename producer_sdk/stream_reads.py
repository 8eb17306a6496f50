"""Reading jobs' streams: one connection that waits for all that a process follows, and goes on after a break."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis
import redis.asyncio

from producer_sdk.broker import ask, unavailable
from producer_sdk.contract import StreamEvent, read_event
from producer_sdk.contract.stream import EVENT_FIELD
from producer_sdk.errors import FleetError
from producer_sdk.settings import FleetSettings
from producer_sdk.stream_place import EntryId, entry_id

BLOCK_S = 0.5
KEYS_A_READ = 500
ENTRIES_A_READ = 200
MOST_UNREAD = 1_000
A_STREAM_S = 0.00005  # between two reads, for each stream: the more there are, the more goes in one
PAUSE_S = 0.05
WAKE_S = 0.01

Entry = tuple[EntryId, StreamEvent | None]


@dataclass(eq=False)
class Followed:
    """One reader of one stream: what has come of it, or why no more will. None: look at the result."""

    key: str
    last: EntryId
    come: asyncio.Queue[Entry | FleetError | None] = field(default_factory=asyncio.Queue)
    was_full: bool = False


class StreamReads:
    """The streams that this process follows. Belongs to one event loop; it rests when there are none."""

    def __init__(self, client: redis.asyncio.Redis, settings: FleetSettings) -> None:
        self._redis = client
        self._settings = settings
        self._followed: list[Followed] = []
        self._reading: asyncio.Task[None] | None = None
        self._waking: asyncio.Task[None] | None = None
        self._blocked: int | None = None  # the id of the connection that waits for entries
        self._is_news = False
        self._changed = asyncio.Event()

    def follow(self, key: str, after: EntryId) -> Followed:
        """Read a stream from here on, until `leave`."""
        followed = Followed(key, after)
        self._followed.append(followed)
        self._tell()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read_on())
        return followed

    def leave(self, followed: Followed) -> None:
        """Read it no more."""
        if followed in self._followed:
            self._followed.remove(followed)

    async def next(self, followed: Followed) -> Entry | None:
        """What comes next; None when the result is to be looked at. Raises BrokerUnavailable."""
        come = await followed.come.get()
        if followed.was_full and followed.come.empty():
            followed.was_full = False
            self._tell()
        if isinstance(come, FleetError):
            raise come
        return come

    async def rest(self, key: str, after: EntryId) -> list[Entry]:
        """All that is in a stream now after this place. Raises BrokerUnavailable."""
        found: list[Entry] = []
        while True:
            start = "{}-{}".format(*(found[-1][0] if found else after))
            read = partial(self._redis.xread, {key: start}, ENTRIES_A_READ)
            page = await ask(read, self._settings)
            entries = [entry for _key, some in _entries(page) for entry in some]
            found += entries
            if len(entries) < ENTRIES_A_READ:
                return found

    async def close(self) -> None:
        """Whoever still follows a stream is told."""
        tasks = [task for task in (self._reading, self._waking) if task]
        for task in tasks:
            task.cancel()
        self._give_up(FleetError("this fleet was closed while its streams were followed"))
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self) -> None:
        """The reading task is to look anew at what is followed, though it waits for entries."""
        self._is_news = True
        self._changed.set()
        if self._blocked is not None and (self._waking is None or self._waking.done()):
            self._waking = asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        while self._is_news and self._blocked is not None:
            with suppress(redis.RedisError):  # where it may not: the read ends by itself after BLOCK_S
                await self._redis.client_unblock(self._blocked)
            await asyncio.sleep(WAKE_S)

    async def _read_on(self) -> None:
        """Read while anything is followed; after a break, from where each reader was."""
        answered = time.monotonic()
        while self._followed:
            own = self._redis.client()
            try:
                await own.initialize()
                connection = await own.client_id()
                while self._followed:
                    await self._read(own, connection)
                    answered = time.monotonic()
            except (redis.RedisError, OSError) as error:
                is_refused = isinstance(error, redis.ResponseError)
                if is_refused or time.monotonic() - answered > self._settings.broker_timeout_s:
                    reason = (
                        error if isinstance(error, redis.RedisError) else redis.ConnectionError(str(error))
                    )
                    self._give_up(unavailable(reason, self._settings))
                await asyncio.sleep(PAUSE_S)
            finally:
                await own.aclose()

    async def _read(self, own: redis.asyncio.Redis, connection: int) -> None:
        self._is_news = False
        self._changed.clear()
        wanted = self._wanted()
        if not wanted:
            with suppress(TimeoutError):
                async with asyncio.timeout(BLOCK_S):
                    await self._changed.wait()
            return
        groups = [wanted[at : at + KEYS_A_READ] for at in range(0, len(wanted), KEYS_A_READ)]
        is_found = False
        for group in groups:
            is_found |= await self._read_group(own, connection, group, waits=len(groups) == 1)
        pause_s = 0 if is_found or len(groups) == 1 else PAUSE_S
        await asyncio.sleep(pause_s + A_STREAM_S * len(wanted))

    def _wanted(self) -> list[tuple[str, EntryId]]:
        """The streams whose readers have room, each from its earliest reader's place."""
        places: dict[str, EntryId] = {}
        for followed in self._followed:
            followed.was_full = followed.was_full or followed.come.qsize() >= MOST_UNREAD
            if not followed.was_full:
                places[followed.key] = min(followed.last, places.get(followed.key, followed.last))
        return list(places.items())

    async def _read_group(
        self, own: redis.asyncio.Redis, connection: int, group: Sequence[tuple[str, EntryId]], *, waits: bool
    ) -> bool:
        block_s = min(BLOCK_S, self._settings.broker_timeout_s / 2)
        asked: Any = {key: "{}-{}".format(*last) for key, last in group}
        self._blocked = connection if waits else None
        try:
            found = await own.xread(asked, ENTRIES_A_READ, int(1000 * block_s) if waits else None)
        finally:
            self._blocked = None
        by_key: dict[str, list[Followed]] = defaultdict(list)
        for followed in self._followed:
            by_key[followed.key].append(followed)
        for key, entries in _entries(found):
            for followed in by_key[key]:
                self._give(followed, entries)
        return bool(found)

    def _give(self, followed: Followed, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not followed.was_full and entry[0] > followed.last:
                followed.last = entry[0]
                followed.come.put_nowait(entry)

    def _give_up(self, error: FleetError) -> None:
        followed, self._followed = self._followed, []
        for one in followed:
            one.come.put_nowait(error)


def _entries(found: Any) -> list[tuple[str, list[Entry]]]:
    """XREAD's reply."""
    read: list[tuple[str, list[Entry]]] = []
    for key, rows in found or ():
        entries = []
        for raw_id, fields in rows:
            text = raw_id.decode()
            entries.append((entry_id(text), read_event(text, (fields or {}).get(EVENT_FIELD, b""))))
        read.append((key.decode(), entries))
    return read

"""The windows of budgets in Redis: admits attempts, and holds what SQL says they cost.

SQL is the truth and Redis only admits: every answer here is checked by the journal (the epoch), and every amount
can be built again from SQL (`install`). All keys lie under `<namespace>:{fleet}:budget`; see prelude.lua.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import redis.asyncio
import redis.exceptions

from producer_sdk.contract import Crossing, Straight
from worker.budget.records import (
    UNCHANGED,
    BatchHold,
    BatchName,
    ClockApart,
    Hold,
    LimitChanges,
    NeedsRebuild,
    Refused,
    Reserved,
    Settled,
    SoftLimit,
    Standing,
    Unknown,
)
from worker.budget.rules import MOST_PICO, WindowLimit, scope_of
from worker.errors import BudgetUnavailable

__all__ = [
    "UNCHANGED",
    "BatchHold",
    "BatchName",
    "BudgetStore",
    "ClockApart",
    "Hold",
    "LimitChanges",
    "NeedsRebuild",
    "Refused",
    "Reserved",
    "Settled",
    "SoftLimit",
    "Standing",
    "Unknown",
]

DAY_MS = 86_400_000
# Longer than the longest window (a month) by some days: what expires can no longer be drawn on.
KEEP_MS = 36 * DAY_MS
# Long enough for every late settle that is not rare; after it, a rebuild is what brings one in.
KEEP_SETTLED_MS = 3_600_000
ROWS_A_PART = 500
WINDOWS_A_CALL = 500
ADMITTING = ("reserve", "open_batch")
T = TypeVar("T")


class BudgetStore:
    """Every method raises BudgetUnavailable when Redis does not answer within `timeout_s`."""

    def __init__(
        self,
        connection: redis.asyncio.Redis,
        *,
        namespace: str = "fairlane",
        crossing: Crossing | None = None,
        run_id_override: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._redis = connection
        self._books = f"{namespace}:{{fleet}}:budget"
        self._crossing = crossing or Straight()
        self._run_id = run_id_override or ""
        self._timeout_s = timeout_s
        self._scripts = {
            verb: connection.register_script(_source(verb, admits=verb in ADMITTING))
            for verb in (*ADMITTING, "settle", "close_batch", "stage", "install", "holds", "spent", "limits")
        }

    async def reserve(
        self,
        attempt_id: UUID,
        *,
        amount_pico: int,
        windows: Sequence[WindowLimit],
        batch: BatchName | None = None,
    ) -> Reserved | Refused | NeedsRebuild | ClockApart:
        """Hold the amount in every window, or in none. The same id again gets the same answer.

        Where the batch has so much left, it is drawn from there, and only the other windows need room.
        """
        amount, made_ms = min(amount_pico, MOST_PICO + 1), attempt_id.int >> 80
        start = (str(attempt_id), amount, made_ms, KEEP_MS, str(batch or ""))
        return _admitted(windows, await self._run("reserve", *start, *_arguments(windows)))

    async def open_batch(
        self, batch: BatchName, *, amount_pico: int, windows: Sequence[WindowLimit], now: datetime
    ) -> Reserved | Refused | NeedsRebuild | ClockApart:
        """Hold a batch's sum in every window, or in none. The same batch again gets the same answer."""
        amount, now_ms = min(amount_pico, MOST_PICO + 1), int(now.timestamp() * 1000)
        start = (str(batch), amount, now_ms, KEEP_MS)
        return _admitted(windows, await self._run("open_batch", *start, *_arguments(windows)))

    async def close_batches(self, batches: Sequence[BatchName]) -> None:
        """Give back what is left of batches that SQL has closed."""
        await self._run("close_batch", *map(str, batches))

    async def settle(
        self, attempt_id: UUID, *, amount_pico: int, returns_share: bool = False
    ) -> Settled | Unknown:
        """Let the attempt's windows hold this amount, whatever they held for it before.

        `returns_share`: what it did not use of its share is its batch's again.
        """
        returning = {attempt_id} if returns_share else frozenset[UUID]()
        return (await self.settle_all({attempt_id: amount_pico}, returning=returning))[attempt_id]

    async def settle_all(
        self, amounts: Mapping[UUID, int], *, returning: Collection[UUID] = frozenset()
    ) -> dict[UUID, Settled | Unknown]:
        """`settle` for many at once, at most 500; an amount of 0 gives the hold back."""
        rows = [
            text
            for attempt_id, amount in amounts.items()
            for text in (str(attempt_id), min(amount, MOST_PICO), "1" if attempt_id in returning else "")
        ]
        epoch, *done = (int(number) for number in await self._run("settle", KEEP_SETTLED_MS, *rows))
        done = done or [0] * len(amounts)
        return {
            attempt_id: Settled(epoch) if is_settled else Unknown(epoch)
            for attempt_id, is_settled in zip(amounts, done, strict=True)
        }

    async def free(self, attempt_ids: Sequence[UUID]) -> None:
        """Give back the holds of attempts that were never called."""
        await self.settle_all(dict.fromkeys(attempt_ids, 0), returning=frozenset(attempt_ids))

    async def install(
        self,
        *,
        epoch: int,
        settled: Mapping[str, int],
        holds: Sequence[Hold],
        batches: Sequence[BatchHold] = (),
        changes: LimitChanges = UNCHANGED,
    ) -> bool:
        """Turn the books to what SQL counted under a new epoch; False when they are newer, or were lost meanwhile."""
        parts = list(_parts(settled, holds, batches, changes))
        for number, rows in enumerate(parts):
            if not await self._run("stage", epoch, number, KEEP_MS, *rows):
                return False
        return bool(await self._run("install", epoch, len(parts)))

    async def set_limits(self, changes: LimitChanges) -> int | None:
        """Let what operators have changed hold from now on; the epoch in which it does, None where there are no books.

        An older version changes nothing.
        """
        pairs = [text for pair in changes.fields().items() for text in pair]
        epoch, _holds = await self._run("limits", changes.version, KEEP_MS, *pairs)
        return int(epoch) or None

    async def limit_changes(self) -> LimitChanges:
        """What operators have changed, as the books in force have it."""
        epoch = (await self.standing()).epoch
        if epoch is None:
            return UNCHANGED
        key = f"{self._books}:{epoch}:limits"
        kept: Any = await self._cross("limits", lambda: cast("Awaitable[Any]", self._redis.hgetall(key)))
        told = {name.decode(): int(amount) for name, amount in kept.items()}
        return LimitChanges(
            told.pop("version", 0),
            {name.removeprefix("set:"): amount for name, amount in told.items() if name.startswith("set:")},
            {name.removeprefix("top:"): amount for name, amount in told.items() if name.startswith("top:")},
        )

    async def holds(self, *, grace_ms: int, skip: int = 0, limit: int = 500) -> list[UUID]:
        """A page of the attempts whose holds are older than the grace, oldest first."""
        _epoch, *ids = await self._run("holds", grace_ms, skip, limit, "holds")
        return [UUID(attempt_id.decode()) for attempt_id in ids]

    async def batches(self, *, grace_ms: int, skip: int = 0, limit: int = 500) -> list[BatchName]:
        """A page of the batches that hold something since longer than the grace, oldest first."""
        _epoch, *names = await self._run("holds", grace_ms, skip, limit, "batches")
        return [BatchName.parse(name.decode()) for name in names]

    async def standing(self, windows: Sequence[str] = ()) -> Standing:
        """The epoch in force, and what these windows stand at; many are asked for in parts, not at one moment."""
        epoch, amounts = 0, dict[str, tuple[int, int]]()
        for at in range(0, max(1, len(windows)), WINDOWS_A_CALL):
            part = windows[at : at + WINDOWS_A_CALL]
            epoch, *numbers = (int(number) for number in await self._run("spent", *part))
            if not epoch:
                return Standing(None, {})
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            amounts |= {name: (used - held, held) for name, (used, held) in zip(part, pairs, strict=True)}
        return Standing(epoch, amounts)

    async def newest_epoch(self) -> int:
        """The epoch of the books, in force or not; 0 for none."""
        return int(await self._cross("epoch", lambda: self._redis.hget(self._books, "epoch")) or 0)

    async def window(self, name: str) -> tuple[int, int]:
        """Settled and held pico-dollars of one window."""
        return (await self.standing([name])).windows.get(name, (0, 0))

    async def now_ms(self) -> int:
        """Redis' time."""
        seconds, microseconds = await self._cross("time", self._redis.time)
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def claim(self, duty: str, *, for_ms: int) -> bool:
        """Take a duty of the fleet for a while; False while another has it. Only to save work, never for safety."""
        key, mine = f"{self._books}:{duty}", uuid4().bytes
        # The answer is what was there before: our own token says that a reply was lost and the claim is repeated.
        before = await self._cross("claim", lambda: self._redis.set(key, mine, nx=True, get=True, px=for_ms))
        return before in (None, mine)

    async def release(self, duty: str) -> None:
        """Let another take the duty at once."""
        await self._cross("release", lambda: self._redis.delete(f"{self._books}:{duty}"))

    async def _run(self, verb: str, *arguments: Any) -> Any:
        script = self._scripts[verb]
        return await self._cross(verb, lambda: script(keys=[self._books], args=[self._run_id, *arguments]))

    async def _cross(self, verb: str, do: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._crossing.cross(f"redis:budget_{verb}", do)
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise BudgetUnavailable(f"Redis did not {verb}: {type(error).__name__}") from error


def _source(verb: str, *, admits: bool) -> str:
    folder = Path(__file__).parent
    files = ("prelude", "admit", verb) if admits else ("prelude", verb)
    return "\n".join((folder / f"{name}.lua").read_text() for name in files)


def _arguments(windows: Sequence[WindowLimit]) -> list[str | int]:
    return [
        text
        for window in windows
        for text in (window.name, window.scope, window.limit_pico, ",".join(map(str, window.soft_limit)))
    ]


def _admitted(
    windows: Sequence[WindowLimit], reply: Sequence[bytes]
) -> Reserved | Refused | NeedsRebuild | ClockApart:
    by_name = {window.name: window for window in windows}
    match reply[0]:
        case b"reserved":
            return Reserved(int(reply[1]), _names(reply[2]), _soft(windows, reply[3:]))
        case b"refused":
            used, held, limit, top_up = (int(number) for number in reply[2:6])
            window = replace(by_name[reply[1].decode()], limit_pico=limit + top_up)
            return Refused(window, used - held, held, _soft(windows, reply[6:]))
        case b"clock":
            return ClockApart(int(reply[1]))
        case _:
            return NeedsRebuild()


def _names(joined: bytes) -> tuple[str, ...]:
    return tuple(joined.decode().split("\n")) if joined else ()


def _soft(windows: Sequence[WindowLimit], pairs: Sequence[bytes]) -> tuple[SoftLimit, ...]:
    """A batch's window is named by its own date: what it is a window of is told by its scope."""
    by_scope = {window.scope: window for window in windows}
    names = (name.decode() for name in pairs[::2])
    return tuple(
        SoftLimit(replace(by_scope[scope_of(name)], name=name), int(percent))
        for name, percent in zip(names, pairs[1::2], strict=True)
    )


def _parts(
    settled: Mapping[str, int], holds: Sequence[Hold], batches: Sequence[BatchHold], changes: LimitChanges
) -> Iterator[list[Any]]:
    """The rows of a rebuild in parts that a script may write at once; a window's held is the sum of its holds."""
    held = Counter[str]()
    for hold in holds:
        held.update(dict.fromkeys(hold.windows, hold.amount_pico))
    for batch in batches:
        held.update(dict.fromkeys(batch.windows, batch.left_pico))
    rows = iter(
        [("w", name, settled.get(name, 0) + held[name], held[name], "", "") for name in {**settled, **held}]
        + [
            (
                "a",
                str(h.attempt_id),
                h.amount_pico,
                "\n".join(h.windows),
                h.attempt_id.int >> 80,
                str(h.batch or ""),
            )
            for h in holds
        ]
        + [("b", str(b.name), b.total_pico, b.drawn_pico, "\n".join(b.windows), "") for b in batches]
        + [
            ("l", name, amount, "", "", "")
            for name, amount in {"version": changes.version, **changes.fields()}.items()
        ]
    )
    while part := list(islice(rows, ROWS_A_PART)):
        yield [text for row in part for text in row]

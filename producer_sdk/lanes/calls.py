"""The calls that both clients of the lanes make, as the arguments of their scripts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from producer_sdk.contract import LANES
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes.keys import LaneKeys
from producer_sdk.lanes.replies import Finished
from producer_sdk.lanes.scripts import Argument, Call, Script

ITEMS_A_SCRIPT = 64
BYTES_A_SCRIPT = 4 * 1024 * 1024
MOST_COST = 10**9
T = TypeVar("T")


def puts(
    script: Script,
    keys: LaneKeys,
    entries: Sequence[LaneEntry],
    *,
    ttl_s: int,
    depth_cap: int,
    op_id: str | None,
) -> list[Call]:
    """put.lua, as often as its bounds ask for. Raises ValueError for a lane that nobody takes from."""
    op_id = op_id or secrets.token_hex(6)
    parts = _parts(entries, lambda entry: len(entry.message))
    return [
        Call(script, [keys.root], [f"{op_id}.{number}.", ttl_s, depth_cap, *_fields(part)])
        for number, part in enumerate(parts)
    ]


def _fields(entries: Sequence[LaneEntry]) -> Iterator[Argument]:
    for entry in entries:
        if entry.lane not in LANES:
            raise ValueError(f"lane: send one of {', '.join(LANES)}, not {entry.lane!r}")
        yield from (entry.job_id, entry.tenant, entry.lane, entry.message, entry.digest, *_numbers(entry))


def finishes(script: Script, keys: LaneKeys, items: Sequence[Finished]) -> list[Call]:
    """finish.lua, as often as its bounds ask for."""
    return [
        Call(
            script,
            [keys.root, *(keys.result(job_of(item.tag)) for item in part)],
            [argument for item in part for argument in _ending(keys, item)],
        )
        for part in _parts(items, lambda item: len(item.result or b""))
    ]


def _ending(keys: LaneKeys, item: Finished) -> tuple[Argument, ...]:
    channel = keys.replies(item.reply_to) if item.reply_to else ""
    return item.tag, int(item.result is not None), item.result or b"", max(item.ttl_s, 1), channel


def _parts(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in order, in parts that one script may carry."""
    part: list[T] = []
    size = 0
    for item in items:
        part.append(item)
        size += size_of(item)
        if len(part) == ITEMS_A_SCRIPT or size >= BYTES_A_SCRIPT:
            yield part
            part, size = [], 0
    if part:
        yield part


def _numbers(entry: LaneEntry) -> list[Argument]:
    """Cost, priority, due_ms, deadline_ms: within what the lanes can order by."""
    cost = min(max(entry.cost, 1), MOST_COST)
    priority = min(max(entry.priority, 0), 9)
    return [cost, priority, max(entry.due_ms, 0), max(entry.deadline_ms, 0)]


def move(script: Script, keys: LaneKeys, tag: str, entry: LaneEntry) -> Call:
    """move.lua. Raises ValueError where the entry is another job's."""
    if job_of(tag) != entry.job_id:
        raise ValueError(f"a delivery of job {job_of(tag)} cannot go back as job {entry.job_id}")
    return Call(script, [keys.root], [tag, entry.message, *_numbers(entry)])


def job_of(tag: str) -> str:
    """The job that a tag was given for."""
    return tag.rpartition(":")[0]

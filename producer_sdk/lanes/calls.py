"""The calls that both clients of the lanes make, as the arguments of their scripts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from producer_sdk.contract import LANES
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes.keys import LaneKeys
from producer_sdk.lanes.scripts import Argument, Call, Script

ENTRIES_A_SCRIPT = 64
BYTES_A_SCRIPT = 4 * 1024 * 1024
MOST_COST = 10**9


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
    return [
        Call(script, [keys.root], [f"{op_id}.{number}.", ttl_s, depth_cap, *chunk])
        for number, chunk in enumerate(_chunks(entries))
    ]


def _chunks(entries: Sequence[LaneEntry]) -> Iterator[list[Argument]]:
    chunk: list[Argument] = []
    count = size = 0
    for entry in entries:
        if entry.lane not in LANES:
            raise ValueError(f"lane: send one of {', '.join(LANES)}, not {entry.lane!r}")
        chunk += [entry.job_id, entry.tenant, entry.lane, entry.message, entry.digest, *numbers(entry)]
        count, size = count + 1, size + len(entry.message)
        if count == ENTRIES_A_SCRIPT or size >= BYTES_A_SCRIPT:
            yield chunk
            chunk, count, size = [], 0, 0
    if chunk:
        yield chunk


def numbers(entry: LaneEntry) -> list[Argument]:
    """Cost, priority, due_ms, deadline_ms: within what the lanes can order by."""
    cost = min(max(entry.cost, 1), MOST_COST)
    priority = min(max(entry.priority, 0), 9)
    return [cost, priority, max(entry.due_ms, 0), max(entry.deadline_ms, 0)]


def move(script: Script, keys: LaneKeys, tag: str, entry: LaneEntry) -> Call:
    """move.lua. Raises ValueError where the entry is another job's."""
    if job_of(tag) != entry.job_id:
        raise ValueError(f"a delivery of job {job_of(tag)} cannot go back as job {entry.job_id}")
    return Call(script, [keys.root], [tag, entry.message, *numbers(entry)])


def job_of(tag: str) -> str:
    """The job that a tag was given for."""
    return tag.rpartition(":")[0]

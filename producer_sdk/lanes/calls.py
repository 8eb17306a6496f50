"""The calls that both clients of the lanes make, as the arguments of their scripts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from producer_sdk.contract import LANES
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes.keys import LaneKeys, Shards
from producer_sdk.lanes.replies import Appended, Finished
from producer_sdk.lanes.scripts import Argument, Call, Script

ITEMS_A_SCRIPT = 64
BYTES_A_SCRIPT = 4 * 1024 * 1024
MOST_COST = 10**9
T = TypeVar("T")


@dataclass(frozen=True)
class PutOptions:
    """`inside`: a job that a job has put, for which depth caps do not hold."""

    ttl_s: int
    inside: bool = False
    op_id: str | None = None


def puts(
    script: Script, shards: Shards, entries: Sequence[LaneEntry], options: PutOptions
) -> list[tuple[list[int], Call]]:
    """put.lua, as often as its bounds ask for, and which of the entries each call carries.

    Raises ValueError for a lane that nobody takes from.
    """
    op_id = options.op_id or secrets.token_hex(6)
    found: list[tuple[list[int], Call]] = []
    for keys in shards.all:
        places = [at for at, entry in enumerate(entries) if shards.of_tenant(entry.tenant) == keys]
        for part in _parts(places, lambda at: len(entries[at].message)):
            head: list[Argument] = [f"{op_id}.{len(found)}", options.ttl_s, int(options.inside), shards.count]
            fields = [field for at in part for field in _fields(entries[at])]
            found.append((part, Call(script, [keys.root], [*head, *fields])))
    return found


def _fields(entry: LaneEntry) -> Iterator[Argument]:
    if entry.lane not in LANES:
        raise ValueError(f"lane: send one of {', '.join(LANES)}, not {entry.lane!r}")
    named = (entry.job_id, entry.tenant, entry.lane, entry.task, entry.message, entry.digest)
    yield from (*named, *_numbers(entry))


def finishes(script: Script, shards: Shards, items: Sequence[Finished]) -> list[tuple[list[int], Call]]:
    """finish.lua, as often as its bounds ask for, and which of the items each call carries."""
    found: list[tuple[list[int], Call]] = []
    for keys in shards.all:
        places = [at for at, item in enumerate(items) if shards.of_tag(item.tag) == keys]
        for part in _parts(places, lambda at: len(items[at].result or b"")):
            job_ids = [job_of(items[at].tag) for at in part]
            own_keys = [key for job_id in job_ids for key in (keys.result(job_id), keys.stream(job_id))]
            fields = [field for at in part for field in _ending(keys, items[at])]
            found.append((part, Call(script, [keys.root, *own_keys], fields)))
    return found


def _ending(keys: LaneKeys, item: Finished) -> tuple[Argument, ...]:
    channel = keys.replies(item.reply_to) if item.reply_to else ""
    cost, tokens = ("", "") if item.used is None else (item.used[0] + 2 * item.used[1], sum(item.used))
    ttl_s = max(item.ttl_s, 1)
    result = (int(item.result is not None), item.result or b"")
    return item.tag, *result, ttl_s, channel, cost, tokens, item.dead, item.ending


def appends(script: Script, shards: Shards, items: Sequence[Appended]) -> list[tuple[list[int], Call]]:
    """append.lua, as often as its bounds ask for, and which of the items each call carries."""
    found: list[tuple[list[int], Call]] = []
    for keys in shards.all:
        places = [at for at, item in enumerate(items) if shards.of_tag(item.tag) == keys]
        for part in _parts(places, lambda at: sum(len(event) for event in items[at].events)):
            streams = [keys.stream(job_of(items[at].tag)) for at in part]
            fields = [field for at in part for field in _appended(items[at])]
            found.append((part, Call(script, [keys.root, *streams], fields)))
    return found


def _appended(item: Appended) -> tuple[Argument, ...]:
    return item.tag, item.number, len(item.events), *item.events


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
    """Cost, tokens, priority, due_ms, deadline_ms: within what the lanes can order by."""
    cost = min(max(entry.cost, 1), MOST_COST)
    tokens = min(max(entry.tokens, 0), MOST_COST)
    priority = min(max(entry.priority, 0), 9)
    return [cost, tokens, priority, max(entry.due_ms, 0), max(entry.deadline_ms, 0)]


def move(script: Script, shards: Shards, tag: str, entry: LaneEntry, *, story: str = "") -> Call:
    """move.lua. Raises ValueError where the entry is another job's."""
    if job_of(tag) != entry.job_id:
        raise ValueError(f"a delivery of job {job_of(tag)} cannot go back as job {entry.job_id}")
    return Call(script, [shards.of_tag(tag).root], [tag, entry.message, *_numbers(entry), story])


def agrees(script: Script, shards: Shards, *, change_from: int = 0) -> list[Call]:
    """agree.lua, in every shard; and in the old ones, where their number is changed."""
    every = Shards(shards.namespace, max(shards.count, change_from)).all
    change = int(change_from > 0)
    return [
        Call(script, [keys.root], [shards.count, change, int(keys.shard >= shards.count)]) for keys in every
    ]


def job_of(tag: str) -> str:
    """The job that a tag was given for."""
    return tag.rpartition(":")[0]


def in_order(parts: Sequence[tuple[list[int], list[T]]]) -> list[T]:
    """What was answered part by part, in the order of what was asked."""
    answered = [pair for places, answers in parts for pair in zip(places, answers, strict=True)]
    return [answer for _place, answer in sorted(answered, key=lambda pair: pair[0])]

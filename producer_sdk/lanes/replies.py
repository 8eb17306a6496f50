"""What the lanes answer: small frozen values; Redis' own lists and bytes go no further than this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

Outcome = Literal["accepted", "duplicate", "conflict", "queue_full"]
Cancelled = Literal["pending", "running", "finished", "unknown"]
State = Literal["pending", "delayed", "running", "closing", "finished", "dead", "unknown"]


@dataclass(frozen=True)
class PutReply:
    """What became of one put; `depth` is how many jobs of its tenant wait (pending in both lanes, and delayed).

    accepted: it waits. duplicate: the same job is known, waiting, running or finished. conflict: another job with its
    id is known. queue_full: its tenant's depth has reached the cap.
    """

    job_id: str
    outcome: Outcome
    depth: int


@dataclass(frozen=True)
class Delivery:
    """One job in a worker's hands until its tag is finished, moved, handed back or lost.

    `stop` says that it must not be called, only ended: "cancelled", "expired" or "dead". `deliveries` counts this one
    and those that were lost with their workers.
    """

    tag: str
    job_id: str
    tenant: str
    lane: str
    message: bytes
    deliveries: int
    put_ms: int
    taken_ms: int
    stop: str | None


@dataclass(frozen=True)
class TakeReply:
    """The jobs handed out, and in how many ms something will be due (None: not before a wake-up)."""

    deliveries: tuple[Delivery, ...]
    next_ms: int | None


@dataclass(frozen=True)
class Finished:
    """How a delivery ended: the result's bytes (None: none is written), kept for `ttl_s` seconds.

    `reply_to` is the client id of the producer that waits.
    """

    tag: str
    result: bytes | None
    ttl_s: int
    reply_to: str | None


@dataclass(frozen=True)
class Beat:
    """The tags that the worker has lost, and those whose jobs were cancelled."""

    lost: frozenset[str]
    cancelled: frozenset[str]


@dataclass(frozen=True)
class Swept:
    """Jobs brought back and jobs given up; `held_off` while the server or its clock was lately away."""

    returned: int
    dead: int
    held_off: bool


@dataclass(frozen=True)
class LaneState:
    """Where a job is. `deliveries` counts how often it was handed out."""

    job_id: str
    state: State
    tenant: str
    lane: str
    deliveries: int


@dataclass(frozen=True)
class TenantQueue:
    """One tenant in one lane. `running` and `cap` are over both lanes.

    `oldest_ms` is how long the job that is next has waited (0: none waits); `delayed` is over both lanes.
    """

    tenant: str
    lane: str
    pending: int
    running: int
    cap: int
    virtual_time: int
    oldest_ms: int
    delayed: int = 0


@dataclass(frozen=True)
class LaneCounts:
    """Jobs by state; `running` includes the closing ones that a worker has in hand."""

    pending: int
    delayed: int
    running: int
    closing: int
    dead: int


@dataclass(frozen=True)
class DeadJob:
    """A job that was given up; `since_ms` is in Unix milliseconds."""

    job_id: str
    tenant: str
    deliveries: int
    reason: str
    since_ms: int


def put_reply(job_id: str, row: list[Any]) -> PutReply:
    """put.lua's row."""
    return PutReply(job_id, cast("Outcome", row[0].decode()), row[1])


def take_reply(reply: list[Any], *, op_id: str) -> TakeReply:
    """take.lua's reply."""
    now_ms, next_ms, _has_caps, rows = reply
    return TakeReply(
        tuple(_delivery(row, op_id, now_ms) for row in rows),
        None if next_ms < 0 else next_ms,
    )


def _delivery(row: list[Any], op_id: str, now_ms: int) -> Delivery:
    job_id = row[0].decode()
    return Delivery(
        tag=f"{job_id}:{op_id}",
        job_id=job_id,
        tenant=row[1].decode(),
        lane=row[2].decode(),
        message=row[3],
        deliveries=row[4],
        put_ms=row[5],
        taken_ms=now_ms,
        stop=row[6].decode() or None,
    )


def lane_state(job_id: str, row: list[Any]) -> LaneState:
    """states.lua's row."""
    return LaneState(job_id, cast("State", row[0].decode()), row[1].decode(), row[2].decode(), row[3])


def tenant_queues(row: list[Any], lanes: tuple[str, ...]) -> list[TenantQueue]:
    """depths.lua's row: one tenant, in each lane."""
    tenant, running, cap, delayed = row[0].decode(), row[1], row[2], row[3]
    return [
        TenantQueue(tenant, lane, row[i], running, cap, row[i + 1], row[i + 2], delayed)
        for lane, i in zip(lanes, range(4, len(row), 3), strict=True)
    ]


def dead_job(row: list[Any]) -> DeadJob:
    """dead.lua's row."""
    return DeadJob(row[0].decode(), row[1].decode(), row[2], row[3].decode(), row[4])

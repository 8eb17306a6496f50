"""What the lanes answer: small frozen values; Redis' own lists and bytes go no further than this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

Outcome = Literal["accepted", "duplicate", "conflict", "queue_full"]
Cancelled = Literal["pending", "running", "finished", "unknown"]
State = Literal["pending", "delayed", "running", "closing", "finished", "dead", "unknown"]


@dataclass(frozen=True)
class PutReply:
    """What became of one put; `depth` is how many jobs of its tenant wait (pending in both lanes, and delayed).

    accepted: it waits. duplicate: the same job is known, waiting, running or finished. conflict: another job with its
    id is known. queue_full: its tenant's depth has reached its `cap` (None: it has none).
    """

    job_id: str
    outcome: Outcome
    depth: int
    cap: int | None = None


@dataclass(frozen=True)
class HeldUp:
    """What a tenant's jobs waited for, in Unix milliseconds; `until_ms` 0: it lasts.

    `by`: a limit's name (`requests_per_min`), `concurrency`, either also `of <task>`, or `paused: <why>`.
    """

    by: str
    from_ms: int
    until_ms: int


@dataclass(frozen=True)
class LostDelivery:
    """A delivery that was lost with its worker, in Unix milliseconds."""

    worker: str
    taken_ms: int
    lost_ms: int


@dataclass(frozen=True)
class Past:
    """What a delivery is told of the job's wait and of its earlier deliveries.

    `ahead`: jobs of its tenant that waited when it was put; `others`: tenants that waited for their turn when it was
    taken; `since_ms`: when it was put, or last let go; `lost`: the newest first; `story`: what workers have noted.
    """

    ahead: int = 0
    others: int = 0
    since_ms: int = 0
    held_up: tuple[HeldUp, ...] = ()
    lost: tuple[LostDelivery, ...] = ()
    story: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class JobLook:
    """One job as its lane has it now; times are in Unix milliseconds.

    `position`: of how many jobs that are before it in its `queue` (None: it is in none). `held_up` now, for
    `held_up_ms` (None: until something changes). `tenants_before`: of how many whose turn is before its tenant's (None:
    it does not wait for a turn). `due_ms`: when a delayed job is due.
    """

    state: State
    tenant: str
    lane: str
    task: str
    now_ms: int
    put_ms: int
    deadline_ms: int
    worker: str
    taken_ms: int
    stop: str
    due_ms: int
    position: int | None
    queue: int
    running: int
    slots: int | None
    held_up: str
    held_up_ms: int | None
    tenants_before: int | None
    past: Past
    deliveries_lost: int = 0


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
    past: Past = field(default=Past(), compare=False)


@dataclass(frozen=True)
class TakeReply:
    """The jobs handed out, and in how many ms something will be due (None: not before a wake-up)."""

    deliveries: tuple[Delivery, ...]
    next_ms: int | None


@dataclass(frozen=True)
class Finished:
    """How a delivery ended: the result's bytes (None: none is written), kept for `ttl_s` seconds.

    `reply_to` is the client id of the producer that waits. `used`: the (input, output) tokens that providers were asked
    for (None: nobody knows, the estimate stands). `dead`: why the job is listed as a dead letter too. `ending`: the
    last event of its stream, where it has one.
    """

    tag: str
    result: bytes | None
    ttl_s: int
    reply_to: str | None
    used: tuple[int, int] | None = None
    dead: str = ""
    ending: bytes = b""


@dataclass(frozen=True)
class Appended:
    """Events for the stream of the job that this tag holds. `number` counts the appends of the tag, from 1."""

    tag: str
    number: int
    events: tuple[bytes, ...]


@dataclass(frozen=True)
class Beat:
    """The tags that the worker has lost, and those whose jobs were cancelled; `held_off` while nothing may be swept."""

    lost: frozenset[str]
    cancelled: frozenset[str]
    held_off: bool = False


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
    """One tenant in one lane. All but `pending`, `virtual_time` and `oldest_ms` is over both lanes.

    `oldest_ms` is how long the job that is next has waited (0: none waits). `throttled_ms`: in how long its limits let
    a job go (0: they do now), and `throttled_by` which limit says so. `paused_until_ms`: Unix milliseconds, 0 until it
    is resumed, None where it is not paused.
    """

    tenant: str
    lane: str
    pending: int
    running: int
    cap: int
    virtual_time: int
    oldest_ms: int
    delayed: int = 0
    throttled_ms: int = 0
    throttled_by: str = ""
    paused_until_ms: int | None = None
    paused_for: str = ""


@dataclass(frozen=True)
class Pause:
    """A tenant of which no job is handed out; `until_ms` in Unix milliseconds, 0 until it is resumed."""

    tenant: str
    until_ms: int
    reason: str


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
    return PutReply(job_id, cast("Outcome", row[0].decode()), row[1], None if row[2] < 0 else row[2])


def take_reply(reply: list[Any], *, op_id: str) -> TakeReply:
    """take.lua's reply."""
    now_ms, next_ms, _has_limits, rows = reply
    return TakeReply(
        tuple(_delivery(row, op_id, now_ms) for row in rows),
        None if next_ms < 0 else next_ms,
    )


def together(replies: list[TakeReply]) -> TakeReply:
    """What the takes from several shards gave."""
    due = [reply.next_ms for reply in replies if reply.next_ms is not None]
    given = tuple(delivery for reply in replies for delivery in reply.deliveries)
    return TakeReply(given, min(due) if due else None)


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
        past=_past(*row[7]),
    )


def _past(ahead: int, others: int, since_ms: int, spans: list[Any], story: bytes, losses: bytes) -> Past:
    return Past(ahead, others, since_ms, _spans(spans), _losses(losses), story)


def _spans(flat: list[Any]) -> tuple[HeldUp, ...]:
    found = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return tuple(HeldUp(by.decode(errors="replace"), int(since), int(until)) for since, until, by in found)


def _losses(lines: bytes) -> tuple[LostDelivery, ...]:
    """sweep.lua's lines; the oldest is cut off where they are too many."""
    rows = [line.split(" ", 2) for line in lines.decode(errors="replace").split("\n")[:-1]]
    return tuple(LostDelivery(worker, int(taken), int(lost)) for taken, lost, worker in rows)


def job_look(flat: list[Any]) -> JobLook | None:
    """look.lua's reply."""
    if not flat:
        return None
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    told = {name.decode(): value for name, value in pairs}
    number = {name: _number(value) for name, value in told.items() if name not in ("story", "losses")}
    past = Past(
        ahead=number["ahead"],
        others=number["others"],
        since_ms=number["let_go"] or number["put"],
        held_up=_spans([value for name, value in pairs if name == b"span"]),
        lost=_losses(told["losses"]),
        story=told["story"],
    )
    held_up_ms = number.get("held_up_ms", 0)
    return JobLook(
        state=cast("State", told["state"].decode()),
        tenant=told["tenant"].decode(),
        lane=told["lane"].decode(),
        task=told["task"].decode(),
        now_ms=number["now"],
        put_ms=number["put"],
        deadline_ms=number["deadline"],
        worker=told["worker"].decode(errors="replace"),
        taken_ms=number["taken"],
        stop=told["stop"].decode(),
        due_ms=number["due"],
        position=_or_none(number["position"]),
        queue=number["queue"],
        running=number["running"],
        slots=_or_none(number["slots"]),
        held_up=told.get("held_up", b"").decode(errors="replace"),
        held_up_ms=_or_none(held_up_ms),
        tenants_before=_or_none(number["tenants_before"]),
        past=past,
        deliveries_lost=number["lost"],
    )


def _number(value: Any) -> int:
    """A number, however Redis tells it; 0 for what is none."""
    try:
        return int(float(value))
    except ValueError:
        return 0


def _or_none(number: int) -> int | None:
    return None if number < 0 else number


def lane_state(job_id: str, row: list[Any]) -> LaneState:
    """states.lua's row."""
    return LaneState(job_id, cast("State", row[0].decode()), row[1].decode(), row[2].decode(), row[3])


def tenant_queues(row: list[Any], lanes: tuple[str, ...]) -> list[TenantQueue]:
    """depths.lua's row: one tenant, in each lane."""
    paused = pause(row[0], row[4]) if row[4] else None
    return [
        TenantQueue(
            tenant=row[0].decode(),
            lane=lane,
            pending=row[i],
            running=row[1],
            cap=row[2],
            virtual_time=row[i + 1],
            oldest_ms=row[i + 2],
            delayed=row[3],
            throttled_ms=row[5],
            throttled_by=row[6].decode(),
            paused_until_ms=paused.until_ms if paused else None,
            paused_for=paused.reason if paused else "",
        )
        for lane, i in zip(lanes, range(7, len(row), 3), strict=True)
    ]


def pause(tenant: bytes, said: bytes) -> Pause:
    """A tenant's entry of the hash of pauses."""
    until_ms, _, reason = said.decode().partition(" ")
    return Pause(tenant.decode(), int(until_ms), reason)


def dead_job(row: list[Any]) -> DeadJob:
    """dead.lua's row."""
    return DeadJob(row[0].decode(), row[1].decode(), row[2], row[3].decode(), row[4])

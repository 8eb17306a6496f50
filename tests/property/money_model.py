"""A model of the order of writes in docs/money.md: every interleaving of two attempts, explored exhaustively.

One window with a limit of 3; each attempt may cost 2 and does cost 1. Redis may be flushed (a restart under another
run id is the same here); a worker may die, or pause as long as it likes, between any two steps; the reaper runs at any
moment, in steps of its own, and never knows who is really dead; two rebuilds may overtake each other; a settled
record may expire. A step in SQL is one transaction, a step in Redis one script.

`fault(without=NAME)` leaves one repair out; without any of REPAIRS there is a fault. Batches are not in it yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

LIMIT, WORST, COST, FLUSHES = 3, 2, 1, 1
REPAIRS = {
    "epoch": "the journal refuses what old counters admitted",
    "void": "the reaper's tombstone before it frees a hold",
    "absolute": "Redis settles an amount by attempt id, not a difference",
    "stale": "a worst case never replaces another settled amount in Redis",
    "mirrored_amount": "a row is mirrored only while its amount is what Redis was told",
    "mirrored_epoch": "a row is mirrored only in SQL's current epoch",
    "reaper_holds": "the reaper walks Redis' holds against SQL",
}


class Redis(NamedTuple):
    epoch: int
    settled: int  # the window's settled sum
    records: tuple[tuple[str, int], ...]  # attempt, what it is settled at; HELD while it is held


class Row(NamedTuple):
    state: str  # in_flight, settled, uncertain, void
    amount: int
    mirrored: bool


class State(NamedTuple):
    redis: Redis | None = Redis(0, 0, ())
    sql: tuple[tuple[str, Row], ...] = ()
    epoch: int = 0
    workers: tuple[tuple[str, str, int], ...] = ()  # attempt, step, epoch it was answered
    reaper: tuple[str, int, int] | None = None  # attempt, amount it read, epoch Redis answered (-1: not yet)
    rebuilds: tuple[Redis | None, ...] = (None, None)
    flushes: int = FLUSHES


HELD = -1
Moves = Iterator[tuple[str, State]]


def put(pairs, key, *values):
    return tuple(sorted([p for p in pairs if p[0] != key] + [(key, *values)]))


def used(redis: Redis) -> int:
    return redis.settled + WORST * sum(settled == HELD for _a, settled in redis.records)


def counted(s: State) -> int:
    return sum(row.amount for _a, row in s.sql)


def settle(redis: Redis | None, a: str, amount: int, off: str | None) -> Redis | None:
    """settle.lua; an unknown attempt changes nothing."""
    if redis is None or a not in dict(redis.records):
        return redis
    old = dict(redis.records)[a]
    if old not in (HELD, amount) and amount == WORST and off != "stale":
        return redis
    before = 0 if old == HELD or off == "absolute" else old
    return redis._replace(
        settled=min(redis.settled - before + amount, 9), records=put(redis.records, a, amount)
    )


def worker_moves(s: State, off: str | None) -> Moves:
    for a, step, epoch in s.workers:
        if step not in ("dead", "done"):
            yield f"{a}: dies", _go(s, a, "dead")
        if step in ("new", "reserved", "refused"):
            yield from _moves_before_its_call(s, a, step, epoch, off)
        else:
            yield from _moves_after_its_journal(s, a, step, epoch, off)


def _go(s: State, a: str, step: str, epoch: int = 0, **change) -> State:
    return s._replace(workers=put(s.workers, a, step, epoch), **change)


def _moves_before_its_call(s: State, a: str, step: str, epoch: int, off: str | None) -> Moves:
    if step == "new" and s.redis and used(s.redis) + WORST <= LIMIT:
        held = s.redis._replace(records=put(s.redis.records, a, HELD))
        yield f"{a}: reserves", _go(s, a, "reserved", s.redis.epoch, redis=held)
    if step == "reserved" and (a in dict(s.sql) or (epoch != s.epoch and off != "epoch")):
        yield f"{a}: is refused at the journal", _go(s, a, "refused")
    elif step == "reserved":
        yield f"{a}: journals", _go(s, a, "journalled", sql=put(s.sql, a, Row("in_flight", WORST, False)))
    if step == "refused":
        yield f"{a}: gives its hold back", _go(s, a, "done", redis=settle(s.redis, a, 0, off))


def _moves_after_its_journal(s: State, a: str, step: str, epoch: int, off: str | None) -> Moves:
    if step == "journalled":
        yield f"{a}: settles in SQL", _go(s, a, "paid", sql=put(s.sql, a, Row("settled", COST, False)))
    if step == "paid" and s.redis and a in dict(s.redis.records):
        told = settle(s.redis, a, COST, off)
        yield f"{a}: settles in Redis", _go(s, a, "told", s.redis.epoch, redis=told)
    elif step == "paid":
        yield f"{a}: is unknown to Redis", _go(s, a, "done")
    if step == "told":
        yield f"{a}: is mirrored", _go(s, a, "done", sql=mirrored(s, a, COST, epoch, off))


def mirrored(s: State, a: str, amount: int, epoch: int, off: str | None):
    row = dict(s.sql)[a]
    is_amount = row.amount == amount or off == "mirrored_amount"
    is_epoch = epoch == s.epoch or off == "mirrored_epoch"
    return put(s.sql, a, row._replace(mirrored=row.mirrored or (is_amount and is_epoch)))


def reaper_moves(s: State, off: str | None) -> Moves:
    for a, row in s.sql:
        if row.state == "in_flight":
            yield (
                f"{a}: reaper makes it uncertain",
                s._replace(sql=put(s.sql, a, Row("uncertain", WORST, False))),
            )
        elif not row.mirrored and s.reaper is None:
            yield f"{a}: reaper reads it", s._replace(reaper=(a, row.amount, -1))
    yield from _moves_of_a_read_row(s, off)
    yield from _moves_of_holds(s, off)


def _moves_of_a_read_row(s: State, off: str | None) -> Moves:
    if s.reaper is None:
        return
    a, amount, epoch = s.reaper
    yield f"{a}: reaper dies", s._replace(reaper=None)
    if epoch >= 0:
        yield f"{a}: reaper mirrors it", s._replace(sql=mirrored(s, a, amount, epoch, off), reaper=None)
    elif s.redis and a in dict(s.redis.records):
        told = settle(s.redis, a, amount, off)
        yield f"{a}: reaper settles it", s._replace(redis=told, reaper=(a, amount, s.redis.epoch))


def _moves_of_holds(s: State, off: str | None) -> Moves:
    if s.redis is None or off == "reaper_holds":
        return
    rows = dict(s.sql)
    for a in [a for a, settled in s.redis.records if settled == HELD]:
        if a not in rows and off != "void":
            yield f"{a}: reaper voids it", s._replace(sql=put(s.sql, a, Row("void", 0, True)))
        if (a not in rows and off == "void") or (a in rows and rows[a].state == "void"):
            yield f"{a}: reaper frees it", s._replace(redis=settle(s.redis, a, 0, off))


def server_moves(s: State) -> Moves:
    if s.redis and s.flushes:
        yield "server: is flushed", s._replace(redis=None, flushes=s.flushes - 1)
    for a, settled in s.redis.records if s.redis else ():
        if settled != HELD:
            rest = tuple(record for record in s.redis.records if record[0] != a)
            yield f"{a}: its record expires", s._replace(redis=s.redis._replace(records=rest))


def sums_of_rebuilds(s: State) -> Moves:
    known = dict(s.redis.records) if s.redis else {}
    unknown = any(row.state != "in_flight" and not row.mirrored and a not in known for a, row in s.sql)
    if s.redis and s.redis.epoch == s.epoch and not unknown:
        return
    sums = sum(row.amount for _a, row in s.sql if row.state != "in_flight")
    holds = tuple((a, HELD) for a, row in s.sql if row.state == "in_flight")
    rows = tuple((a, row._replace(mirrored=row.state != "in_flight")) for a, row in s.sql)
    new = Redis(s.epoch + 1, sums, holds)
    for i, built in enumerate(s.rebuilds):
        if built is None:
            rebuilds = _with(s.rebuilds, i, new)
            yield f"{i}: rebuild sums up", s._replace(epoch=s.epoch + 1, sql=rows, rebuilds=rebuilds)


def installs_of_rebuilds(s: State) -> Moves:
    for i, built in enumerate(s.rebuilds):
        if built is not None:
            rest = _with(s.rebuilds, i, None)
            yield f"{i}: rebuild gives up", s._replace(rebuilds=rest)
            if s.redis is None or built.epoch > s.redis.epoch:
                yield f"{i}: rebuild installs", s._replace(redis=built, rebuilds=rest)


def _with(rebuilds, i, new):
    return (*rebuilds[:i], new, *rebuilds[i + 1 :])


def moves(s: State, off: str | None, rebuilds: int) -> Moves:
    yield from worker_moves(s, off)
    yield from reaper_moves(s, off)
    yield from server_moves(s)
    if s.epoch < rebuilds:
        yield from sums_of_rebuilds(s)
    yield from installs_of_rebuilds(s)


def at_rest(s: State) -> bool:
    """Everyone has ended, and Redis holds what SQL says and nothing else."""
    if (
        s.redis is None
        or s.redis.epoch != s.epoch
        or any(step not in ("done", "dead") for _a, step, _e in s.workers)
    ):
        return False
    return used(s.redis) == s.redis.settled == counted(s) and all(
        row.state != "in_flight" for _a, row in s.sql
    )


def fault(
    attempts: tuple[str, ...] = ("a1", "a2"), *, rebuilds: int = 1, without: str | None = None
) -> tuple[str, list[str]] | None:
    """What is wrong with the order, and the steps that lead there; None when nothing is."""
    start = State(workers=tuple((a, "new", 0) for a in attempts))
    came_from: dict[State, tuple[str, State] | None] = {start: None}
    back: dict[State, list[State]] = {}
    todo = deque([start])
    while todo:
        s = todo.popleft()
        for name, t in moves(s, without, rebuilds):
            back.setdefault(t, []).append(s)
            if t not in came_from:
                came_from[t] = (name, s)
                if counted(t) > LIMIT:
                    return "more than the limit", steps(t, came_from)
                todo.append(t)
    resting = {s for s in came_from if at_rest(s)}
    todo = deque(resting)
    while todo:
        for s in back.get(todo.popleft(), ()):
            if s not in resting:
                resting.add(s)
                todo.append(s)
    # With its last rebuild gone a state may be stuck only because the exploration ends there.
    stuck = next((s for s in came_from if s not in resting and s.epoch < rebuilds), None)
    return stuck and ("can never come to rest with Redis equal to SQL", steps(stuck, came_from))


def steps(s: State, came_from) -> list[str]:
    names = []
    while came_from[s]:
        name, s = came_from[s]
        names.append(name)
    return names[::-1]

"""A model of the order of writes in docs/money.md: every interleaving of two attempts, explored exhaustively.

One window with a limit of 3; each attempt may cost 2 and does cost 1. Redis may be flushed (a restart under another
run id is the same here); a worker may die, or pause as long as it likes, between any two steps; the reaper runs at any
moment, in steps of its own, and never knows who is really dead; two rebuilds may overtake each other; a settled
record may expire. A step in SQL is one transaction, a step in Redis one script.

"B" is a batch that reserves 2 before its lines, and is closed at any moment; an attempt whose name begins with "b" is a
line of it: it draws its 2 from the batch where that has them, else from the window. It may also fail at no cost, and
then its share is the batch's again.

`fault(without=NAME)` leaves one repair out; without any of REPAIRS there is a fault.
"""

from __future__ import annotations

import gc
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
BATCH_REPAIRS = {
    "batch_rest": "a rebuild counts what is left of open batches",
    "batch_void": "the reaper's tombstone before it frees a batch",
    "draw_once": "what a line draws from its batch is kept by attempt id, and changes by the difference",
    "return_share": "a line that was not sent, or failed, gives its share back to the batch, not to the window",
}

# The smallest case in which a missing repair shows: attempts, rebuilds, flushes.
CASES = {
    "epoch": (("a1", "a2"), 1, 1),
    "void": (("a1", "a2"), 1, 1),
    "batch_rest": (("B", "b1"), 2, 1),
    "batch_void": (("B", "b1"), 2, 1),
    "return_share": (("B", "b1", "a1"), 1, 1),
    "draw_once": (("B", "b1", "b2", "b3"), 0, 0),
}
ONE_ATTEMPT = (("a1",), 3, 1)


class Redis(NamedTuple):
    epoch: int
    settled: int  # the window's settled sum
    records: tuple[tuple[str, int, int], ...]  # attempt, what it is settled at (HELD: held), what it draws
    batch: int | None = None  # what the lines of the open batch draw


class Row(NamedTuple):
    state: str  # in_flight, settled, failed, uncertain, void
    amount: int
    mirrored: bool
    is_line: bool = False

    @property
    def draws(self) -> int:
        """Of its batch: what it may cost, until it is known that the money is still needed."""
        if not self.is_line:
            return 0
        return self.amount if self.state in ("failed", "void") else WORST


class State(NamedTuple):
    redis: Redis | None = Redis(0, 0, ())
    sql: tuple[tuple[str, Row], ...] = ()
    epoch: int = 0
    batch: str = ""  # open, closed (void is closed): the batch's row
    workers: tuple[tuple[str, str, int], ...] = ()  # attempt, step, epoch it was answered
    reaper: tuple[str, Row, int] | None = None  # attempt, row it read, epoch Redis answered (-1: not yet)
    rebuilds: tuple[Redis | None, ...] = (None, None)
    flushes: int = FLUSHES


HELD = -1
OWN = -1  # draws from no batch
BATCH = "B"
Moves = Iterator[tuple[str, State]]


def put(pairs, key, *values):
    return tuple(sorted([p for p in pairs if p[0] != key] + [(key, *values)]))


def used(redis: Redis) -> int:
    held = sum(settled == HELD for _a, settled, _d in redis.records)
    return redis.settled + WORST * held + rest_of(redis.batch)


def rest_of(draws: int | None) -> int:
    return 0 if draws is None else WORST - draws


def counted(s: State) -> int:
    return sum(row.amount for _a, row in s.sql) + left_of_batch(s)


def left_of_batch(s: State) -> int:
    return max(0, WORST - sum(row.draws for _a, row in s.sql)) if s.batch == "open" else 0


def settle(redis: Redis | None, a: str, row: Row, off: str | None) -> Redis | None:
    """settle.lua; an unknown attempt changes nothing."""
    record = _record(redis, a)
    if redis is None or record is None:
        return redis
    old, drew = record
    amount = row.amount
    if old not in (HELD, amount) and amount == WORST and off != "stale":
        return redis
    before = 0 if old == HELD or off == "absolute" else old
    draws, batch = drew, redis.batch
    if drew != OWN:
        draws = WORST if off == "return_share" else row._replace(is_line=True).draws
        change = draws - (WORST if off == "draw_once" else drew)
        batch = None if batch is None else min(max(batch + change, -9), 9)
    return redis._replace(
        settled=min(redis.settled - before + amount, 9),
        records=put(redis.records, a, amount, draws),
        batch=batch,
    )


def _record(redis: Redis | None, a: str) -> tuple[int, int] | None:
    found = {name: (settled, draws) for name, settled, draws in redis.records} if redis else {}
    return found.get(a)


SETTLED, FAILED, VOID = Row("settled", COST, False), Row("failed", 0, False), Row("void", 0, True)


def worker_moves(s: State, off: str | None) -> Moves:
    for a, step, epoch in s.workers:
        if step not in ("dead", "done"):
            yield f"{a}: dies", _go(s, a, "dead")
        if a == BATCH:
            yield from _moves_of_a_batch(s, step, epoch, off)
        elif step in ("new", "reserved", "drawn", "refused"):
            yield from _moves_before_its_call(s, a, step, epoch, off)
        else:
            yield from _moves_after_its_journal(s, a, step, epoch, off)


def _go(s: State, a: str, step: str, epoch: int = 0, **change) -> State:
    return s._replace(workers=put(s.workers, a, step, epoch), **change)


def _moves_of_a_batch(s: State, step: str, epoch: int, off: str | None) -> Moves:
    if step == "new" and s.redis and used(s.redis) + WORST <= LIMIT:
        yield "B: reserves its sum", _go(s, BATCH, "reserved", s.redis.epoch, redis=s.redis._replace(batch=0))
    if step == "reserved" and (s.batch or (epoch != s.epoch and off != "epoch")):
        yield "B: is refused its row", _go(s, BATCH, "refused")
    elif step == "reserved":
        yield "B: is opened in SQL", _go(s, BATCH, "done", batch="open")
    if step == "refused":
        yield "B: gives its sum back", _go(s, BATCH, "done", redis=closed(s.redis))


def closed(redis: Redis | None) -> Redis | None:
    """close.lua."""
    return redis and redis._replace(batch=None)


def _moves_before_its_call(s: State, a: str, step: str, epoch: int, off: str | None) -> Moves:
    if step == "new" and s.redis:
        draws = a[0] == "b" and s.redis.batch is not None and rest_of(s.redis.batch) >= WORST
        if draws:
            held = s.redis._replace(
                records=put(s.redis.records, a, HELD, WORST), batch=(s.redis.batch or 0) + WORST
            )
            yield f"{a}: draws from its batch", _go(s, a, "drawn", s.redis.epoch, redis=held)
        elif used(s.redis) + WORST <= LIMIT:
            held = s.redis._replace(records=put(s.redis.records, a, HELD, OWN))
            yield f"{a}: reserves", _go(s, a, "reserved", s.redis.epoch, redis=held)
    if step in ("reserved", "drawn"):
        is_line = step == "drawn"
        if a in dict(s.sql) or (epoch != s.epoch and off != "epoch"):
            yield f"{a}: is refused at the journal", _go(s, a, "refused")
        else:
            row = Row("in_flight", WORST, False, is_line)
            yield f"{a}: journals", _go(s, a, "journalled", sql=put(s.sql, a, row))
    if step == "refused":
        yield f"{a}: gives its hold back", _go(s, a, "done", redis=settle(s.redis, a, VOID, off))


def _moves_after_its_journal(s: State, a: str, step: str, epoch: int, off: str | None) -> Moves:
    if step == "journalled":
        is_line = dict(s.sql)[a].is_line
        row = SETTLED._replace(is_line=is_line)
        yield f"{a}: settles in SQL", _go(s, a, "paid", sql=put(s.sql, a, row))
        if is_line:
            row = FAILED._replace(is_line=True)
            yield f"{a}: fails in SQL", _go(s, a, "paid", sql=put(s.sql, a, row))
    row = dict(s.sql).get(a, VOID)
    if step == "paid" and _record(s.redis, a):
        told = settle(s.redis, a, row, off)
        yield f"{a}: settles in Redis", _go(s, a, "told", s.redis.epoch, redis=told)
    elif step == "paid":
        yield f"{a}: is unknown to Redis", _go(s, a, "done")
    if step == "told":
        yield f"{a}: is mirrored", _go(s, a, "done", sql=mirrored(s, a, row.amount, epoch, off))


def mirrored(s: State, a: str, amount: int, epoch: int, off: str | None):
    row = dict(s.sql)[a]
    is_amount = row.amount == amount or off == "mirrored_amount"
    is_epoch = epoch == s.epoch or off == "mirrored_epoch"
    return put(s.sql, a, row._replace(mirrored=row.mirrored or (is_amount and is_epoch)))


def reaper_moves(s: State, off: str | None) -> Moves:
    for a, row in s.sql:
        if row.state == "in_flight":
            unknown = row._replace(state="uncertain", mirrored=False)
            yield f"{a}: reaper makes it uncertain", s._replace(sql=put(s.sql, a, unknown))
        elif not row.mirrored and s.reaper is None:
            yield f"{a}: reaper reads it", s._replace(reaper=(a, row, -1))
    yield from _moves_of_a_read_row(s, off)
    yield from _moves_of_holds(s, off)
    yield from _moves_of_the_batch(s, off)


def _moves_of_a_read_row(s: State, off: str | None) -> Moves:
    if s.reaper is None:
        return
    a, row, epoch = s.reaper
    yield f"{a}: reaper dies", s._replace(reaper=None)
    if epoch >= 0:
        yield f"{a}: reaper mirrors it", s._replace(sql=mirrored(s, a, row.amount, epoch, off), reaper=None)
    elif s.redis and _record(s.redis, a):
        told = settle(s.redis, a, row, off)
        yield f"{a}: reaper settles it", s._replace(redis=told, reaper=(a, row, s.redis.epoch))


def _moves_of_holds(s: State, off: str | None) -> Moves:
    if s.redis is None or off == "reaper_holds":
        return
    rows = dict(s.sql)
    for a in [a for a, settled, _d in s.redis.records if settled == HELD]:
        if a not in rows and off != "void":
            yield f"{a}: reaper voids it", s._replace(sql=put(s.sql, a, VOID))
        if (a not in rows and off == "void") or (a in rows and rows[a].state == "void"):
            yield f"{a}: reaper frees it", s._replace(redis=settle(s.redis, a, VOID, off))


def _moves_of_the_batch(s: State, off: str | None) -> Moves:
    if s.batch == "open":
        yield "B: is closed in SQL", s._replace(batch="closed")
    if s.redis is None or s.redis.batch is None:
        return
    if not s.batch and off != "batch_void":
        yield "B: reaper voids it", s._replace(batch="closed")
    if s.batch == "closed" or (not s.batch and off == "batch_void"):
        yield "B: is closed in Redis", s._replace(redis=closed(s.redis))


def server_moves(s: State) -> Moves:
    if s.redis and s.flushes:
        yield "server: is flushed", s._replace(redis=None, flushes=s.flushes - 1)
    for a, settled, _draws in s.redis.records if s.redis else ():
        if settled != HELD:
            rest = tuple(record for record in s.redis.records if record[0] != a)
            yield f"{a}: its record expires", s._replace(redis=s.redis._replace(records=rest))


def sums_of_rebuilds(s: State, off: str | None) -> Moves:
    known = {record[0] for record in s.redis.records} if s.redis else set()
    unknown = any(row.state != "in_flight" and not row.mirrored and a not in known for a, row in s.sql)
    if s.redis and s.redis.epoch == s.epoch and not unknown:
        return
    sums = sum(row.amount for _a, row in s.sql if row.state != "in_flight")
    holds = tuple(
        (a, HELD, row.draws if row.is_line else OWN) for a, row in s.sql if row.state == "in_flight"
    )
    rows = tuple((a, row._replace(mirrored=row.state != "in_flight")) for a, row in s.sql)
    has_batch = s.batch == "open" and off != "batch_rest"
    new = Redis(s.epoch + 1, sums, holds, WORST - left_of_batch(s) if has_batch else None)
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
        yield from sums_of_rebuilds(s, off)
    yield from installs_of_rebuilds(s)


def at_rest(s: State) -> bool:
    """Everyone has ended, and Redis holds what SQL says and nothing else."""
    if (
        s.redis is None
        or s.redis.epoch != s.epoch
        or s.batch == "open"
        or any(step not in ("done", "dead") for _a, step, _e in s.workers)
    ):
        return False
    return used(s.redis) == s.redis.settled == counted(s) and all(
        row.state != "in_flight" for _a, row in s.sql
    )


def fault(
    attempts: tuple[str, ...] = ("a1", "a2"),
    *,
    rebuilds: int = 1,
    flushes: int = FLUSHES,
    without: str | None = None,
) -> tuple[str, list[str]] | None:
    """What is wrong with the order, and the steps that lead there; None when nothing is."""
    collecting = gc.isenabled()
    gc.disable()  # what is kept here has no cycles, and looking for some takes as long as exploring
    try:
        return _explored(
            State(workers=tuple((a, "new", 0) for a in attempts), flushes=flushes), without, rebuilds
        )
    finally:
        if collecting:
            gc.enable()


def _explored(start: State, without: str | None, rebuilds: int) -> tuple[str, list[str]] | None:
    """States are numbered in the order in which they are first reached."""
    numbers: dict[State, int] = {start: 0}
    states = [start]
    came_from: list[tuple[str, int] | None] = [None]
    back: list[list[int]] = [[]]
    for number, s in enumerate(states):  # which grows meanwhile
        for name, t in moves(s, without, rebuilds):
            reached = numbers.setdefault(t, len(states))
            if reached == len(states):
                states.append(t)
                came_from.append((name, number))
                back.append([])
                if counted(t) > LIMIT:
                    return "more than the limit", steps(reached, came_from)
            back[reached].append(number)
    rests = [at_rest(s) for s in states]
    todo = [number for number, is_resting in enumerate(rests) if is_resting]
    while todo:
        for number in back[todo.pop()]:
            if not rests[number]:
                rests[number] = True
                todo.append(number)
    # With its last rebuild gone a state may be stuck only because the exploration ends there.
    stuck = (number for number, s in enumerate(states) if not rests[number] and s.epoch < max(1, rebuilds))
    found = next(stuck, None)
    return (
        None if found is None else ("can never come to rest with Redis equal to SQL", steps(found, came_from))
    )


def steps(number: int, came_from: list[tuple[str, int] | None]) -> list[str]:
    names = []
    while found := came_from[number]:
        name, number = found
        names.append(name)
    return names[::-1]

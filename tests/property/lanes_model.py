"""The lanes as dictionaries: what the scripts must do, without Redis, bounds or clients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import TenantLimits
from tests.property.buckets_model import Buckets
from tests.property.lanes_rows import Row

LANES = ("interactive", "batch")
LEAST_THROTTLE_MS = 50


class Model:
    """Every verb takes the time, in ms, and answers as the lanes do."""

    def __init__(self, *, limits: Mapping[str, TenantLimits], lease: int, delivery_cap: int) -> None:
        self.limits, self.lease, self.delivery_cap = limits, lease, delivery_cap
        self.buckets = Buckets(limits)
        self.rows: dict[str, Row] = {}
        self.turn = self.hold_until = 0
        self.was_end = False
        self.V: dict[str, float] = dict.fromkeys(LANES, 0)
        self.at: dict[tuple[str, str], float] = defaultdict(float)
        self.ready: set[tuple[str, str]] = set()
        self.throttled: dict[tuple[str, str], float] = {}
        self.paused: dict[str, int] = {}
        self.order: dict[tuple[str, str], dict[Any, float]] = {}

    def waiting(self, lane: str, tenant: str) -> list[Row]:
        """A tenant's pending jobs in order."""
        rows = [row for row in self.rows.values() if row.state == "pending"]
        mine = [row for row in rows if (row.entry.lane, row.entry.tenant) == (lane, tenant)]
        return sorted(mine, key=lambda row: row.place)

    def has_slot(self, flow: str, tenant: str) -> bool:
        """Whether a scope's slots are not all in use."""
        slots = self.buckets.of(flow, tenant)[0].concurrency
        held = [row for row in self.rows.values() if row.tag and not row.stop and row.entry.tenant == tenant]
        return slots is None or sum(flow in ("", row.flow) for row in held) < slots

    def flow_of(self, entry: LaneEntry) -> str:
        """The part of its tenant's queue in which a job waits."""
        return entry.task if entry.task in self.limits[entry.tenant].tasks else ""

    def place(self, tenant: str, now: int) -> None:
        """A tenant that may go waits for its turn."""
        if not self.has_slot("", tenant):
            return
        until = self.paused.get(tenant)
        is_paused = until is not None and (until == 0 or until > now)
        if not is_paused:
            self.paused.pop(tenant, None)
        for lane in LANES:
            spot = (lane, tenant)
            if is_paused:
                if until:
                    self.throttle(spot, until)
            elif spot not in self.ready and spot not in self.throttled and self.waiting(lane, tenant):
                waiting = [(self.at[other], other[1]) for other in self.ready if other[0] == lane]
                for at, first in sorted(waiting)[:1]:
                    self.advance(lane, first, at)
                self.at[spot] = max(self.at[spot], self.V[lane] + self.running_charge(lane, tenant))
                self.ready.add(spot)

    def running_charge(self, lane: str, tenant: str) -> float:
        """What was charged for a tenant's running jobs."""
        mine = [row for row in self.rows.values() if (row.entry.lane, row.entry.tenant) == (lane, tenant)]
        return sum(row.charged for row in mine)

    def leave(self, lane: str, tenant: str) -> None:
        """It waits for its turn no more."""
        spot = (lane, tenant)
        if spot in self.ready:
            self.ready.remove(spot)
            if not any(other == lane for other, _tenant in self.ready):
                self.advance(lane, tenant, self.at[spot])

    def advance(self, lane: str, tenant: str, at: float) -> None:
        """V is the virtual time of the tenant served last, without what was charged for its running jobs."""
        self.V[lane] = max(self.V[lane], at - self.running_charge(lane, tenant))

    def throttle(self, spot: tuple[str, str], until: float) -> None:
        """Its limits say no in this lane until then."""
        self.throttled[spot] = until
        self.leave(*spot)

    def look_again(self, tenant: str, now: int) -> None:
        """Something has changed."""
        for lane in LANES:
            self.throttled.pop((lane, tenant), None)
        self.place(tenant, now)

    def left_queue(self, row: Row) -> None:
        """After a job has left its queue."""
        lane, tenant = row.entry.lane, row.entry.tenant
        if not self.waiting(lane, tenant):
            self.order.pop((lane, tenant), None)
            self.leave(lane, tenant)

    def enqueue(self, row: Row) -> None:
        """To its place: of priority p, 2^(9-p) behind the last one, or behind what is passed."""
        entry = row.entry
        if not row.is_back:
            order = self.order.setdefault((entry.lane, entry.tenant), {})
            row.spot = max(order.get("passed", 0), order.get(entry.priority, 0)) + 2.0 ** (9 - entry.priority)
            order[entry.priority] = row.spot
        row.state = "pending"
        flow = self.flow_of(entry)
        of_flow = [
            other for other in self.waiting(entry.lane, entry.tenant) if self.flow_of(other.entry) == flow
        ]
        if of_flow[0] is row:
            self.throttled.pop((entry.lane, entry.tenant), None)

    def wait_again(self, row: Row, now: int, due: int) -> None:
        """To where the job belongs."""
        if row.stop or row.cancelled:
            self.close(row, row.stop or "cancelled", due if row.stop and due > now else 0)
        elif due > now:
            row.state, row.since = "delayed", due
        else:
            self.enqueue(row)
        self.place(row.entry.tenant, now)

    def close(self, row: Row, stop: str, not_before: int = 0) -> None:
        """It only needs its end written."""
        row.state, row.stop, row.since = "closing", stop, not_before

    def put(self, entry: LaneEntry, now: int) -> str:
        """The outcome."""
        known = self.rows.get(entry.job_id)
        if known:
            return "duplicate" if known.entry.digest == entry.digest else "conflict"
        depth = sum(
            row.state in ("pending", "delayed") and row.entry.tenant == entry.tenant
            for row in self.rows.values()
        )
        cap = self.limits[entry.tenant].max_pending
        if cap is not None and depth >= cap:
            return "queue_full"
        row = self.rows[entry.job_id] = Row(entry, put=now)
        self.wait_again(row, now, entry.due_ms)
        return "accepted"

    def take(self, n: int, now: int, op_id: str) -> list[tuple[str, str | None, int]]:
        """Job id, stop and delivery number of each job handed out."""
        due = [row for row in self.rows.values() if row.state == "delayed" and row.since <= now]
        for row in sorted(due, key=lambda row: (row.since, row.entry.job_id)):
            self.enqueue(row)
        for tenant in {row.entry.tenant for row in due}:
            self.place(tenant, now)
        for lane in LANES:
            mine = [
                (until, spot) for spot, until in self.throttled.items() if spot[0] == lane and until <= now
            ]
            for _until, spot in sorted(mine):
                del self.throttled[spot]
                self.place(spot[1], now)
        closing = [
            row for row in self.rows.values() if row.state == "closing" and not row.tag and row.since <= now
        ]
        ends = sorted(closing, key=lambda row: (row.since, row.entry.job_id))[:n]
        given: list[tuple[str, str | None, int]] = []
        while len(given) < n and (self.ready or ends):
            if ends and not (self.ready and self.was_end):
                given.append(self._hold(ends.pop(0), now, op_id))
                self.was_end = True
            else:
                given += self._serve(now, op_id)
                self.was_end = False
        return given

    def choose(self, lane: str, tenant: str, now: int) -> tuple[Row | None, int | None]:
        """The job that may go; else in how long one may, None: not before a slot frees."""
        if not self.has_slot("", tenant):
            return None, None
        heads = {self.flow_of(row.entry): row for row in reversed(self.waiting(lane, tenant))}
        open_heads = {flow: row for flow, row in heads.items() if self.has_slot(flow, tenant)}
        waits = {
            flow: max(self.buckets.wait(each, tenant, row.entry.tokens, now) for each in {"", flow})
            for flow, row in open_heads.items()
        }
        may_go = [row for flow, row in open_heads.items() if not waits[flow]]
        return min(may_go, key=lambda row: row.place, default=None), min(waits.values(), default=None)

    def _serve(self, now: int, op_id: str) -> list[tuple[str, str | None, int]]:
        first = LANES[self.turn % 5 == 4]
        lane = first if any(spot[0] == first for spot in self.ready) else LANES[first == LANES[0]]
        at, tenant = min((self.at[spot], spot[1]) for spot in self.ready if spot[0] == lane)
        row, wait = self.choose(lane, tenant, now)
        if row is None:
            if wait:
                self.throttle((lane, tenant), now + max(wait, LEAST_THROTTLE_MS))
            else:
                self.leave(lane, tenant)
            return []
        if 0 < row.entry.deadline_ms <= now and now >= self.hold_until:
            self.close(row, "expired")
            self.left_queue(row)
            return []
        row.state, row.flow = "running", self.flow_of(row.entry)
        if not row.is_back:
            self.order[lane, tenant]["passed"] = row.spot
        for flow in {"", row.flow}:
            self.buckets.draw(flow, tenant, now, requests=1, tokens=row.entry.tokens)
        self.advance(lane, tenant, at)
        row.charged = row.entry.cost / self.limits[tenant].weight
        self.at[lane, tenant] = at + row.charged
        self.turn += 1
        given = self._hold(row, now, op_id)
        if not self.has_slot("", tenant):
            for each in LANES:
                self.leave(each, tenant)
        self.left_queue(row)
        return [given]

    def _hold(self, row: Row, now: int, op_id: str) -> tuple[str, str | None, int]:
        row.tag, row.lease_end = f"{row.entry.job_id}:{op_id}", now + self.lease
        return row.entry.job_id, row.stop, row.lost + 1

    def holder(self, tag: str) -> Row | None:
        """The job that the tag holds."""
        row = self.rows[tag.rpartition(":")[0]]
        return row if row.tag == tag else None

    def answer(self, tag: str, verb: str) -> tuple[Row | None, bool]:
        """The job, if the tag holds it; and what the verb answers."""
        row = self.holder(tag)
        if row is None:
            return None, self.rows[tag.rpartition(":")[0]].last == verb + tag
        row.last = verb + tag
        return row, True

    def correct(self, row: Row, charged: float, cost: int) -> None:
        """What it was charged was not what it took."""
        spot = (row.entry.lane, row.entry.tenant)
        by = cost / self.limits[spot[1]].weight - charged
        if spot in self.ready:
            self.at[spot] += by
        else:
            self.at[spot] = max(self.at[spot], self.V[spot[0]]) + by

    def settle(self, row: Row, tokens: int, now: int) -> None:
        """The tokens that its buckets were charged by estimate, corrected."""
        tenant, fewer = row.entry.tenant, row.entry.tokens - tokens
        if not fewer:
            return
        for flow in {"", row.flow}:
            self.buckets.draw(flow, tenant, now, tokens=-fewer)
        rate = self.limits[tenant].tokens_per_min
        for spot in [spot for spot in self.throttled if spot[1] == tenant and rate and fewer > 0]:
            self.throttled[spot] -= fewer * 60000 / (rate or 1)

    def release(self, row: Row) -> None:
        """Out of a worker's hands. Its flow's slot may be what its tenant waited for."""
        for lane in LANES if row.flow else ():
            self.throttled.pop((lane, row.entry.tenant), None)
        was_charged, row.tag, row.flow, row.charged = row.charged, "", "", 0
        spot = (row.entry.lane, row.entry.tenant)
        if was_charged and not any(other[0] == spot[0] for other in self.ready):
            self.advance(*spot, self.at[spot])

    def finish(self, tag: str, used: tuple[int, int] | None, now: int) -> bool:
        """Whether the end counts."""
        row, answer = self.answer(tag, "finish")
        if row:
            charged = row.charged
            if used and charged:
                self.settle(row, sum(used), now)
            self.release(row)
            row.state = "dead" if row.stop == "dead" else "finished"
            self.place(row.entry.tenant, now)
            if used and charged:
                self.correct(row, charged, used[0] + 2 * used[1])
        return answer

    def hand_back(self, tag: str, now: int, delay: int) -> bool:
        """Whether it counts."""
        row, answer = self.answer(tag, "hand_back")
        if row:
            row.is_back = True
            charged = row.charged
            if charged:
                self.settle(row, 0, now)
            self.release(row)
            self.wait_again(row, now, now + delay if delay else 0)
            if charged:
                self.correct(row, charged, 0)
        return answer

    def move(self, tag: str, entry: LaneEntry, now: int) -> bool:
        """Whether it counts."""
        row, answer = self.answer(tag, "move")
        if row:
            charged = row.charged
            if charged:
                self.settle(row, 0, now)
            row.entry, row.is_back = entry, False
            self.release(row)
            self.wait_again(row, now, entry.due_ms)
            if charged:
                self.correct(row, charged, 0)
        return answer

    def beat(self, tags: list[str], now: int) -> set[str]:
        """The tags that are lost."""
        held = [row for row in map(self.holder, tags) if row]
        for row in held:
            row.lease_end = now + self.lease
        return set(tags) - {row.tag for row in held}

    def cancel(self, job_id: str, now: int) -> str:
        """Where the job was."""
        row = self.rows[job_id]
        if row.state == "running":
            row.cancelled = True
        elif row.state in ("pending", "delayed"):
            self.close(row, "cancelled")
            self.left_queue(row)
            self.look_again(row.entry.tenant, now)
            return "pending"
        return {"closing": "pending", "dead": "finished"}.get(row.state, row.state)

    def pause(self, tenant: str, until: int, now: int) -> None:
        """None of its jobs goes until then (0: until it is resumed)."""
        self.paused[tenant] = until
        for lane in LANES:
            self.throttled.pop((lane, tenant), None)
            self.leave(lane, tenant)
            if until > now:
                self.throttled[lane, tenant] = until

    def resume(self, tenant: str, now: int) -> bool:
        """Whether it was paused."""
        until = self.paused.pop(tenant, None)
        self.look_again(tenant, now)
        return until is not None and (until == 0 or until > now)

    def jumped(self, now: int, *, back: bool) -> None:
        """The clock jumped: nothing is swept for a lease, and what a clock ahead said of limits holds no more."""
        self.hold_until = now + self.lease
        if back:
            self.throttled = dict.fromkeys(self.throttled, 0.0)
            self.buckets.set_back = now

    def sweep(self, now: int) -> tuple[int, int]:
        """Jobs returned, jobs given up."""
        returned = dead = 0
        for row in self.rows.values():
            row.lease_end = min(row.lease_end, now + self.lease)
        if now >= self.hold_until:
            returned, dead = self._bring_back(now)
            late = [row for row in self.rows.values() if 0 < row.entry.deadline_ms <= now]
            for row in sorted(late, key=lambda row: (row.entry.deadline_ms, row.entry.job_id)):
                if row.state in ("pending", "delayed"):
                    self.close(row, "expired")
                    self.left_queue(row)
                    self.look_again(row.entry.tenant, now)
        for tenant in {row.entry.tenant for row in self.rows.values()}:
            self.place(tenant, now)
        return returned, dead

    def _bring_back(self, now: int) -> tuple[int, int]:
        returned = dead = 0
        lost = [row for row in self.rows.values() if row.tag and row.lease_end <= now]
        for row in sorted(lost, key=lambda row: (row.lease_end, row.entry.job_id)):
            row.lost, row.last, row.is_back = row.lost + 1, "", True
            self.release(row)
            if row.lost >= self.delivery_cap and not row.stop and not row.cancelled:
                dead += 1
                self.close(row, "dead")
                self.place(row.entry.tenant, now)
                continue
            backoff = now + min(row.lost * self.lease, 600_000) if row.lost > self.delivery_cap else 0
            self.wait_again(row, now, backoff if row.stop else 0)
            returned += 1
        return returned, dead

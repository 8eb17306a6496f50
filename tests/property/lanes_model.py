"""The lanes as a dictionary: what the scripts must do, without Redis, bounds or clients."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from producer_sdk.contract.envelope import LaneEntry

LANES = ("interactive", "batch")


@dataclass
class Row:
    """One job."""

    entry: LaneEntry
    seq: int
    state: str = ""
    since: int = 0  # delayed: due; closing: not before
    tag: str = ""
    lease_end: int = 0
    last: str = ""
    lost: int = 0
    stop: str | None = None
    cancelled: bool = False


class Model:
    """Every verb takes the time, in ms, and answers as the lanes do."""

    def __init__(self, *, cap: int, lease: int, delivery_cap: int) -> None:
        self.cap, self.lease, self.delivery_cap = cap, lease, delivery_cap
        self.rows: dict[str, Row] = {}
        self.seq = self.turn = self.hold_until = 0
        self.was_end = False
        self.V = dict.fromkeys(LANES, 0)
        self.at: dict[tuple[str, str], int] = defaultdict(int)
        self.ready: set[tuple[str, str]] = set()

    def waiting(self, lane: str, tenant: str) -> list[Row]:
        """A tenant's pending jobs in order."""
        rows = [row for row in self.rows.values() if row.state == "pending"]
        mine = [row for row in rows if (row.entry.lane, row.entry.tenant) == (lane, tenant)]
        return sorted(mine, key=lambda row: (-row.entry.priority, row.seq))

    def running(self, tenant: str) -> int:
        """A tenant's slots in use."""
        return sum(row.state == "running" and row.entry.tenant == tenant for row in self.rows.values())

    def place(self, tenant: str) -> None:
        """A tenant is ready in a lane while it has pending jobs there and a free slot."""
        for lane in LANES:
            spot = (lane, tenant)
            is_ready = bool(self.waiting(lane, tenant)) and self.running(tenant) < self.cap
            if is_ready and spot not in self.ready:
                self.at[spot] = max(self.at[spot], self.V[lane])
                self.ready.add(spot)
            elif not is_ready and spot in self.ready:
                self.ready.remove(spot)
                if not any(other == lane for other, _tenant in self.ready):
                    self.V[lane] = max(self.V[lane], self.at[spot])

    def wait_again(self, row: Row, now: int, due: int) -> None:
        """To where the job belongs."""
        if row.stop or row.cancelled:
            self.close(row, row.stop or "cancelled", due if row.stop and due > now else 0)
        else:
            row.state, row.since = ("delayed", due) if due > now else ("pending", 0)
        row.tag = ""
        self.place(row.entry.tenant)

    def close(self, row: Row, stop: str, not_before: int = 0) -> None:
        """It only needs its end written."""
        row.state, row.stop, row.since = "closing", stop, not_before
        self.place(row.entry.tenant)

    def put(self, entry: LaneEntry, now: int) -> str:
        """The outcome."""
        known = self.rows.get(entry.job_id)
        if known:
            return "duplicate" if known.entry.digest == entry.digest else "conflict"
        self.seq += 1
        row = self.rows[entry.job_id] = Row(entry, self.seq)
        self.wait_again(row, now, entry.due_ms)
        return "accepted"

    def take(self, n: int, now: int, op_id: str) -> list[tuple[str, str | None, int]]:
        """Job id, stop and delivery number of each job handed out."""
        for row in sorted(self.rows.values(), key=lambda row: row.since):
            if row.state == "delayed" and row.since <= now:
                row.state = "pending"
                self.place(row.entry.tenant)
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

    def _serve(self, now: int, op_id: str) -> list[tuple[str, str | None, int]]:
        first = LANES[self.turn % 5 == 4]
        lane = first if any(spot[0] == first for spot in self.ready) else LANES[first == LANES[0]]
        at, tenant = min((self.at[spot], spot[1]) for spot in self.ready if spot[0] == lane)
        row = self.waiting(lane, tenant)[0]
        if 0 < row.entry.deadline_ms <= now and now >= self.hold_until:
            self.close(row, "expired")
            return []
        row.state = "running"
        self.V[lane] = max(self.V[lane], at)
        self.at[lane, tenant] = at + row.entry.cost
        self.turn += 1
        self.place(tenant)
        return [self._hold(row, now, op_id)]

    def _hold(self, row: Row, now: int, op_id: str) -> tuple[str, str | None, int]:
        row.tag, row.lease_end = f"{row.entry.job_id}:{op_id}", now + self.lease
        return row.entry.job_id, row.stop, row.lost + 1

    def holder(self, tag: str) -> Row | None:
        """The job that the tag holds."""
        row = self.rows[tag.rpartition(":")[0]]
        return row if row.tag == tag else None

    def release(self, tag: str, verb: str) -> tuple[Row | None, bool]:
        """The job, if the tag holds it; and what the verb answers."""
        row = self.holder(tag)
        if row is None:
            return None, self.rows[tag.rpartition(":")[0]].last == verb + tag
        row.last = verb + tag
        return row, True

    def finish(self, tag: str) -> bool:
        """Whether the end counts."""
        row, answer = self.release(tag, "finish")
        if row:
            row.state, row.tag = "dead" if row.stop == "dead" else "finished", ""
            self.place(row.entry.tenant)
        return answer

    def hand_back(self, tag: str, now: int, delay: int) -> bool:
        """Whether it counts."""
        row, answer = self.release(tag, "hand_back")
        if row:
            spot = (row.entry.lane, row.entry.tenant)
            if not row.stop:
                self.at[spot] = max(self.V[spot[0]], self.at[spot] - row.entry.cost)
            self.wait_again(row, now, now + delay if delay else 0)
        return answer

    def move(self, tag: str, entry: LaneEntry, now: int) -> bool:
        """Whether it counts."""
        row, answer = self.release(tag, "move")
        if row:
            self.seq += 1
            row.entry, row.seq = entry, self.seq
            self.wait_again(row, now, entry.due_ms)
        return answer

    def beat(self, tags: list[str], now: int) -> set[str]:
        """The tags that are lost."""
        held = [row for row in map(self.holder, tags) if row]
        for row in held:
            row.lease_end = now + self.lease
        return set(tags) - {row.tag for row in held}

    def cancel(self, job_id: str) -> str:
        """Where the job was."""
        row = self.rows[job_id]
        if row.state == "running":
            row.cancelled = True
        elif row.state in ("pending", "delayed"):
            self.close(row, "cancelled")
            return "pending"
        return {"closing": "pending", "dead": "finished"}.get(row.state, row.state)

    def sweep(self, now: int) -> tuple[int, int]:
        """Jobs returned, jobs given up."""
        returned = dead = 0
        for row in self.rows.values():
            row.lease_end = min(row.lease_end, now + self.lease)
        if now < self.hold_until:
            return returned, dead
        lost = [row for row in self.rows.values() if row.tag and row.lease_end <= now]
        for row in sorted(lost, key=lambda row: (row.lease_end, row.entry.job_id)):
            row.lost, row.last = row.lost + 1, ""
            if row.lost >= self.delivery_cap and not row.stop and not row.cancelled:
                row.tag, dead = "", dead + 1
                self.close(row, "dead")
                continue
            backoff = now + min(row.lost * self.lease, 600_000) if row.lost > self.delivery_cap else 0
            self.wait_again(row, now, backoff if row.stop else 0)
            returned += 1
        late = [row for row in self.rows.values() if 0 < row.entry.deadline_ms <= now]
        for row in sorted(late, key=lambda row: (row.entry.deadline_ms, row.entry.job_id)):
            if row.state in ("pending", "delayed"):
                self.close(row, "expired")
        return returned, dead

    def look(self) -> dict[str, Any]:
        """Every job's state."""
        return {job_id: row.state for job_id, row in self.rows.items()}

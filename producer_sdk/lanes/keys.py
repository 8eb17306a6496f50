"""The names of the lanes' keys and channels; names.lua beside this file names the same keys for the scripts."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

RESULT_PREFIX = "celery-task-meta-"


@dataclass(frozen=True)
class LaneKeys:
    """Keys of one shard, under one hash tag: `<namespace>:{lanes-<shard>}:` and then

    | name | kind | lives |
    |---|---|---|
    | `state` | hash: version of the limits, shards, turn of the lanes, virtual times, clock | permanent, one |
    | `limits:<version>` | hash: tenant, limits | permanent, one; an older one goes with the newer |
    | `paused` | hash: tenant, until when and why | permanent, one |
    | `tenants` | zset: tenants with work | permanent, one; who has none left is swept out |
    | `ready:<lane>`, `parked:<lane>` | zset: tenant, virtual time | permanent, two each; idle tenants are pruned |
    | `charged:<lane>` | hash: tenant, charged for its running jobs | while jobs run |
    | `throttled:<lane>` | zset: tenant, when to look again | while tenants are in it |
    | `bucket:<scope>` | hash: requests and tokens left | until it is full again |
    | `queue:<lane>:<scope>` | zset: pending jobs in order | while jobs are in it |
    | `flows:<lane>:<tenant>` | set: tasks with a queue of their own | while jobs are in those |
    | `order:<lane>:<tenant>` | hash: last spot of each priority | while jobs are pending |
    | `held:<scope>` | set: jobs in the scope's slots | while jobs are in it |
    | `unacked`, `closing`, `deadlines`, `delayed` | zset | while jobs are in it |
    | `delayed:<tenant>` | zset: jobs, due time | while jobs are in it |
    | `message:<id>` | string: the job's first record, and its message | until the job's end |
    | `job:<id>` | hash: its record, once a worker had it | until its end, then as long as `ttl_s` says |
    | `waits:<tenant>` | string: what has held it up lately | a day |
    | `take:<operation id>` | list: jobs given out | two leases |
    | `dead` | zset | permanent, one; at most 10,000 jobs of the last 7 days |
    | `dead:<id>` | hash: why, and the message, for a replay | 7 days |
    | `fsync` | string: a write to wait for | a minute |
    | `clock`, `run` | string | only where a test overrides the clock |

    A scope is `:<tenant>`, or `<task>:<tenant>` for a task with limits of its own; no task's name holds a colon. The
    last part of a name is the only other one that comes from outside, so no tenant can name another's key.
    """

    namespace: str
    shard: int = 0

    @property
    def root(self) -> str:
        """What all keys of the shard begin with."""
        return f"{self.namespace}:{{lanes-{self.shard}}}:"

    @property
    def wake(self) -> str:
        """The channel that workers listen on: b"wake", or b"cancel:<job id>"."""
        return self.root + "wake"

    @property
    def clock(self) -> str:
        """Unix milliseconds, read in place of TIME with clock="override"."""
        return self.root + "clock"

    @property
    def run(self) -> str:
        """The server's identity, read in place of INFO's run_id with clock="override"."""
        return self.root + "run"

    def replies(self, client_id: str) -> str:
        """The channel on which a producer hears the ids of its jobs that have ended."""
        return f"{self.namespace}:replies:{client_id}"

    def stream(self, job_id: str) -> str:
        """A job's answer as it comes, where it asked for that: a Redis stream, as docs/wire.md says.

        It lives for an hour after what was added last, and for ten minutes after the job's end.
        """
        return f"{self.namespace}:stream:{job_id}"

    def result(self, job_id: str) -> str:
        """Where Celery's Redis result backend looks for the result, and the channel it listens on."""
        return RESULT_PREFIX + job_id


@dataclass(frozen=True)
class Shards:
    """Where a fleet's tenants are: each in one shard, by its name."""

    namespace: str
    count: int = 1

    @property
    def all(self) -> list[LaneKeys]:
        """Every shard's keys."""
        return [LaneKeys(self.namespace, shard) for shard in range(self.count)]

    def of_tenant(self, tenant: str) -> LaneKeys:
        """The shard in which a tenant's jobs are."""
        return LaneKeys(self.namespace, zlib.crc32(tenant.encode()) % self.count)

    def operation(self, op_id: str, shard: int) -> str:
        """The operation id of a take from one shard: its tags say where they are from."""
        return op_id if self.count == 1 else f"{op_id}.{shard}"

    def of_tag(self, tag: str) -> LaneKeys:
        """The shard that gave a tag; the first one for a tag that none of them gave."""
        shard = tag.rpartition(".")[2] if self.count > 1 else ""
        number = int(shard) if shard.isdecimal() and len(shard) < 6 else 0
        return LaneKeys(self.namespace, number if number < self.count else 0)

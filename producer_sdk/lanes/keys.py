"""The names of the lanes' keys and channels; names.lua beside this file names the same keys for the scripts."""

from __future__ import annotations

from dataclasses import dataclass

RESULT_PREFIX = "celery-task-meta-"


@dataclass(frozen=True)
class LaneKeys:
    """Keys of one shard, under one hash tag: `<namespace>:{lanes-<shard>}:` and then

    | name | kind | lives |
    |---|---|---|
    | `state` | hash: order counter, turn of the lanes, virtual times, clock | permanent, one |
    | `caps` | hash: tenant, concurrent jobs | permanent, one |
    | `tenants` | zset: tenants with work | permanent, one; who has none left is swept out |
    | `ready:<lane>`, `parked:<lane>` | zset: tenant, virtual time | permanent, two each; idle tenants are pruned |
    | `queue:<lane>:<tenant>` | zset: pending jobs in order | while jobs are in it |
    | `held:<tenant>` | set: jobs in the tenant's slots | while jobs are in it |
    | `unacked`, `closing`, `deadlines`, `delayed` | zset | while jobs are in it |
    | `delayed:<tenant>` | zset: jobs, due time | while jobs are in it |
    | `job:<id>` | hash: the job's record | until its end, then as long as the put's `ttl_s` (or the result's) says |
    | `message:<id>` | string | until the job's end |
    | `take:<operation id>` | list: jobs given out | two leases |
    | `dead` | zset | permanent, one; at most 10,000 jobs of the last 7 days |
    | `dead:<id>` | hash: why, and the message, for a replay | 7 days |
    | `clock`, `run` | string | only where a test overrides the clock |

    The last part of a name is the only one that comes from outside, so no tenant can name another's key.
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

    def result(self, job_id: str) -> str:
        """Where Celery's Redis result backend looks for the result, and the channel it listens on."""
        return RESULT_PREFIX + job_id

"""Putting jobs from code that blocks: Celery's publish path. The scripts and replies are those of Lanes."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from producer_sdk.contract import Crossing, Straight
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import calls, replies, scripts
from producer_sdk.lanes.keys import LaneKeys
from producer_sdk.lanes.replies import PutReply
from producer_sdk.lanes.scripts import Clock


class LanesBlocking:
    """`put` and `move`, as Lanes has them. `connection` must not decode responses."""

    def __init__(
        self,
        connection: redis.Redis,
        *,
        namespace: str = "fairlane",
        crossing: Crossing | None = None,
        clock: Clock = "server",
    ) -> None:
        self.keys = LaneKeys(namespace)
        self._redis = connection
        self._crossing = crossing or Straight()
        self._scripts = scripts.load_scripts(clock)

    def put(
        self, entries: Sequence[LaneEntry], *, ttl_s: int, depth_cap: int = 0, op_id: str | None = None
    ) -> list[PutReply]:
        """Put jobs into their queues in one round trip; one reply a job, in order."""
        each = calls.puts(
            self._scripts["put"], self.keys, entries, ttl_s=ttl_s, depth_cap=depth_cap, op_id=op_id
        )
        answers = self._crossing.cross_blocking(
            "redis:put", lambda: scripts.run_all_blocking(self._redis, each)
        )
        rows = [row for answer in answers for row in answer]
        return [replies.put_reply(entry.job_id, row) for entry, row in zip(entries, rows, strict=True)]

    def move(self, tag: str, entry: LaneEntry) -> bool:
        """A retry: the job goes back under its id with a new message. False: the tag was not live."""
        call = calls.move(self._scripts["move"], self.keys, tag, entry)
        answers = self._crossing.cross_blocking(
            "redis:move", lambda: scripts.run_all_blocking(self._redis, [call])
        )
        return bool(answers[0])

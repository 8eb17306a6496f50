"""Putting jobs from code that blocks: Celery's publish path. The scripts and replies are those of Lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from producer_sdk.contract import Crossing, Straight
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import calls, replies, scripts
from producer_sdk.lanes.keys import Shards
from producer_sdk.lanes.lanes import WrongShards, wrong_shards
from producer_sdk.lanes.replies import PutReply
from producer_sdk.lanes.scripts import Call, Clock


class LanesBlocking:
    """`put` and `move`, as Lanes has them. `connection` must not decode responses."""

    def __init__(
        self,
        connection: redis.Redis,
        *,
        namespace: str = "fairlane",
        shards: int = 1,
        crossing: Crossing | None = None,
        clock: Clock = "server",
    ) -> None:
        self.shards = Shards(namespace, shards)
        self._redis = connection
        self._crossing = crossing or Straight()
        self._scripts = scripts.load_scripts(clock)
        self._has_agreed = False

    def put(
        self, entries: Sequence[LaneEntry], *, ttl_s: int, inside: bool = False, op_id: str | None = None
    ) -> list[PutReply]:
        """Put jobs into their queues in one round trip; one reply a job, in order. Raises WrongShards."""
        self._agree()
        options = calls.PutOptions(ttl_s=ttl_s, inside=inside, op_id=op_id)
        parts = calls.puts(self._scripts["put"], self.shards, entries, options)
        try:
            answers = self._run_all("put", [call for _places, call in parts])
        except redis.ResponseError as error:
            raise wrong_shards(error) from error
        rows = calls.in_order([(part[0], answer) for part, answer in zip(parts, answers, strict=True)])
        return [replies.put_reply(entry.job_id, row) for entry, row in zip(entries, rows, strict=True)]

    def move(self, tag: str, entry: LaneEntry, *, story: str = "") -> bool:
        """A retry: the job goes back under its id with a new message. False: the tag was not live."""
        call = calls.move(self._scripts["move"], self.shards, tag, entry, story=story)
        return bool(self._run_all("move", [call])[0])

    def _agree(self) -> None:
        if self._has_agreed:
            return
        for found in self._run_all("agree", calls.agrees(self._scripts["agree"], self.shards)):
            if found != self.shards.count:
                raise WrongShards(found)
        self._has_agreed = True

    def _run_all(self, verb: str, each: Sequence[Call]) -> list[Any]:
        return self._crossing.cross_blocking(
            f"redis:{verb}", lambda: scripts.run_all_blocking(self._redis, each)
        )

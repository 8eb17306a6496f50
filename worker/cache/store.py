"""Kept answers in Redis: one string an answer, gone when its task's time is up."""

from __future__ import annotations

import logging

import redis.asyncio
import redis.exceptions
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from producer_sdk.contract import Citation, Crossing, Straight, Vectors
from worker.job_run import Answer

MAX_BYTES = 262_144
MAX_VECTOR_BYTES = 1_048_576  # some 125 vectors of 1,536 dimensions
logger = logging.getLogger(__name__)


class KeptAnswer(BaseModel):
    """An answer as it is kept; what it cost when it was made is what a hit saves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    model: str
    provider: str
    deployment: str
    cost_pico: int
    citations: tuple[Citation, ...] = ()
    data: JsonValue = None
    vectors: Vectors | None = Field(default=None, exclude_if=lambda vectors: vectors is None)

    @classmethod
    def of(cls, answer: Answer) -> KeptAnswer:
        """What is kept of an answer."""
        return cls(
            text=answer.text,
            model=answer.model,
            provider=answer.provider,
            deployment=answer.deployment,
            cost_pico=answer.cost_pico,
            citations=answer.citations,
            data=answer.data,
            vectors=answer.vectors,
        )


class ExactCache:
    """Answers by the key of their question."""

    def __init__(
        self, redis: redis.asyncio.Redis, *, namespace: str = "fairlane", crossing: Crossing | None = None
    ) -> None:
        self._redis = redis
        self._namespace = namespace
        self._crossing = crossing or Straight()

    async def get(self, key: str) -> KeptAnswer | None:
        """The kept answer, or None; one that cannot be read is none."""
        found = await self._crossing.cross("redis:cache_get", lambda: self._redis.get(self._name(key)))
        if found is None:
            return None
        try:
            return KeptAnswer.model_validate_json(found)
        except ValidationError:
            logger.warning("a kept answer cannot be read and is made anew")
            return None

    async def put(self, key: str, answer: KeptAnswer, *, ttl_s: int) -> None:
        """Keep the answer. It has been paid for and booked: a broker that is away only loses the copy."""
        written = answer.model_dump_json().encode()
        if len(written) > (MAX_VECTOR_BYTES if answer.vectors else MAX_BYTES):
            return
        try:
            await self._crossing.cross(
                "redis:cache_put", lambda: self._redis.set(self._name(key), written, ex=ttl_s)
            )
        except redis.exceptions.RedisError as error:
            logger.warning("an answer was not kept (%s)", type(error).__name__)

    def _name(self, key: str) -> str:
        return f"{self._namespace}:cache:{key}"

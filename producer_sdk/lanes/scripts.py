"""The lanes' Lua scripts: one file a verb, with the preludes that all share in front, called by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

Clock = Literal["server", "override"]
Argument = str | bytes | int
_FOLDER = Path(__file__).parent
_VERBS = (
    "put", "take", "append", "finish", "hand_back", "move", "beat", "sweep", "cancel", "states", "live", "depths",
    "set_limits", "pause", "resume", "pauses", "agree", "dead", "dead_message", "discard", "hurry", "look",
)  # fmt: skip
_CHOOSING = ("take", "depths")
_STREAMING = ("append", "finish")


@dataclass(frozen=True)
class Script:
    """A script's text and its hash, under which the server keeps it."""

    text: str
    sha: str


@dataclass(frozen=True)
class Call:
    """One call of a script, still to be sent."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Argument]

    @property
    def by_sha(self) -> tuple[Any, ...]:
        """EVALSHA's arguments."""
        return self.script.sha, len(self.keys), *self.keys, *self.args


def load_scripts(clock: Clock) -> dict[str, Script]:
    """Every verb's script, with the server's clock or one that a test sets."""
    shared = (
        "names",
        f"clock_{clock}",
        "limits",
        "fairness",
        "waits",
        "turns",
        "jobs",
        "queues",
        "moves",
        "due",
        "tick",
    )
    prelude = "\n".join(_read(name) for name in shared)
    chosen = f"{prelude}\n{_read('choose')}\n{_read('start')}"
    streaming = f"{prelude}\n{_read('streams')}"
    preludes = dict.fromkeys(_CHOOSING, chosen) | dict.fromkeys(_STREAMING, streaming)
    return {verb: _script(f"{preludes.get(verb, prelude)}\n{_read(verb)}") for verb in _VERBS}


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


async def run(client: redis.asyncio.Redis, call: Call) -> Any:
    """The script's reply. A server that does not know the script learns it on the way."""
    try:
        return await client.evalsha(*call.by_sha)
    except NoScriptError:
        await client.script_load(call.script.text)
        return await client.evalsha(*call.by_sha)


async def run_all(
    client: redis.asyncio.Redis, calls: Sequence[Call], *, fsync_ms: int = 0, fsync_key: str = ""
) -> list[Any]:
    """The replies of many calls in one round trip; with `fsync_ms` then WAITAOF's reply.

    WAITAOF waits for its connection's own last write, and a put that was repeated writes nothing: so a write goes
    before it. The log is one sequence, and has the put when it has that.
    """
    fsync = (fsync_key, fsync_ms)
    replies = await _pipelined(client, calls, fsync)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        for text in {call.script.text for call in calls}:
            await client.script_load(text)
        replies = await _pipelined(client, calls, fsync)
    if fsync_ms:
        del replies[-2]
    return _raised(replies)


async def _pipelined(client: redis.asyncio.Redis, calls: Sequence[Call], fsync: tuple[str, int]) -> list[Any]:
    fsync_key, fsync_ms = fsync
    async with client.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.evalsha(*call.by_sha)
        if fsync_ms:
            pipeline.set(fsync_key, 1, ex=60)
            pipeline.waitaof(1, 0, fsync_ms)
        return await pipeline.execute(raise_on_error=False)


def run_all_blocking(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    """The same for a client that blocks."""
    replies = _pipelined_blocking(client, calls)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        for text in {call.script.text for call in calls}:
            client.script_load(text)
        replies = _pipelined_blocking(client, calls)
    return _raised(replies)


def _pipelined_blocking(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.evalsha(*call.by_sha)
        return pipeline.execute(raise_on_error=False)


def _raised(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies

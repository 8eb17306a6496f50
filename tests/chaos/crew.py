"""The worker processes of one scene and its broker: started, killed, and asked to end."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import redis.exceptions

from producer_sdk import AsyncFleet
from producer_sdk.contract import Job
from producer_sdk.errors import BrokerUnavailable
from tests.chaos.reply_proxy import ReplyProxies
from tests.chaos.scene import Scene, until
from tests.servers import Valkey
from worker.settings import WorkerSettings


class Worker(Protocol):
    """A worker process, forked or started by its command."""

    @property
    def exit_code(self) -> int | None: ...
    @property
    def log(self) -> str: ...
    def send(self, number: signal.Signals) -> None: ...
    def kill(self) -> None: ...


class Crew:
    """The workers by name; one that is killed is replaced. With `proxies`, each reaches the broker through its own."""

    def __init__(
        self,
        scene: Scene,
        valkey: Valkey,
        *,
        start: Callable[[WorkerSettings], Worker],
        dice: random.Random,
        proxies: ReplyProxies | None = None,
    ) -> None:
        self.workers: dict[str, Worker] = {}
        self._scene = scene
        self._valkey = valkey
        self._start_worker = start
        self._dice = dice
        self._proxies = proxies
        self._started = 0

    def start(self) -> None:
        """One worker more."""
        self._started += 1
        name, settings = f"w{self._started}", self._scene.settings
        fleet = settings.fleet
        if self._proxies:
            fleet = replace(fleet, broker_url=self._proxies.open(name))
        self.workers[name] = self._start_worker(replace(settings, worker_name=name, fleet=fleet))

    def assert_none_has_ended(self) -> None:
        """Only those that were struck may: a fleet of fewer workers than planned would prove less."""
        for name, worker in self.workers.items():
            code = worker.exit_code
            assert code is None, f"worker {name} has ended by itself ({code}):\n{worker.log[-2000:]}"

    async def kill(self, name: str) -> set[str]:
        """Kill it and start another; the journalled calls that died with it."""
        await self.end(name)
        died = await self.in_flight_in(name)
        self._scene.in_flight_at_kills |= died
        self.start()
        return died

    async def end(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.workers[name].kill()
        await until(lambda: self.workers[name].exit_code is not None, what="its end")
        del self.workers[name]
        if self._proxies:
            self._proxies.close(name)

    async def in_flight_in(self, name: str) -> set[str]:
        """The journalled calls of the deliveries that the lanes say it holds."""
        held = (await self._scene.holders()).values()
        return {attempt for attempt, tag in self._scene.rows.in_flight().items() if (name, tag) in held}

    async def restart_broker(self) -> None:
        """Let the workers miss the killed broker for a moment, and start it again from its AOF."""
        await asyncio.sleep(self._dice.uniform(0, 1.0))
        self._valkey.start()
        await until(self._answers, what="the broker")

    async def _answers(self) -> bool:
        try:
            return bool(await self._scene.redis.ping())
        except (redis.exceptions.RedisError, OSError):
            return False

    async def end_warmly(self) -> tuple[int | None, ...]:
        """SIGTERM; their exit codes."""
        for worker in self.workers.values():
            worker.send(signal.SIGTERM)
        for worker in self.workers.values():
            await until(lambda worker=worker: worker.exit_code is not None, within_s=30, what="a warm end")  # type: ignore[misc]
        return tuple(worker.exit_code for worker in self.workers.values())


async def submit(scene: Scene, fleet: AsyncFleet, jobs: list[Job]) -> None:
    """Repeat until the fleet has answered: a job that was accepted before the answer was lost is a duplicate."""
    end = time.monotonic() + 60
    while True:
        try:
            handles = await fleet.submit_many(jobs)
            break
        except BrokerUnavailable:
            assert time.monotonic() < end, "the broker did not come back"
    assert not [handle.error for handle in handles if handle.error]
    scene.accepted |= {str(handle.job_id) for handle in handles}

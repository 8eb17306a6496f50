"""Looks at SQL's sums again and again while a run goes on, and asks Redis, SQL and the doctor when it rests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tests.chaos.fairlane_commands import fairlane
from tests.chaos.money_books import Audit, Doctor, full_windows, limit_pico, overspent
from tests.chaos.redis_books import read
from tests.chaos.scene import Scene
from worker.routing_load import load

EVERY_S = 1.0


class Watch:
    """What the samples of one scene have shown."""

    def __init__(self, scene: Scene) -> None:
        self.samples = 0
        self.overspent: list[str] = []
        self.least_room_pico: int | None = None
        self.full: set[str] = set()  # the kinds of windows that were ever seen spent
        self.full_now: set[str] = set()
        self._scene = scene
        self._routing = load(scene.settings.routing_path)

    async def look(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.to_thread(self.sample)
            await asyncio.sleep(EVERY_S)

    def sample(self) -> None:
        """One look; the sums before the limits, which are only ever raised."""
        sums = self._scene.rows.spent(in_flight=True)
        limits = self._limits(sums)
        self.samples += 1
        self.overspent += overspent(sums, limits)
        self.full_now = set(full_windows(self._scene.rows.spent(in_flight=False), limits))
        self.full |= self.full_now
        rooms = [limit - sums[window] for window, limit in limits.items() if limit is not None]
        self.least_room_pico = min(
            (room for room in (*rooms, self.least_room_pico) if room is not None), default=None
        )

    def _limits(self, windows: Mapping[str, int]) -> dict[str, int | None]:
        top_ups = self._scene.rows.top_ups()
        return {window: limit_pico(window, self._routing, top_ups) for window in windows}

    async def audit(self, *, rest_s: float) -> Audit:
        """Redis beside SQL, and the doctor's word."""
        scene = self._scene
        exit_code, told = await fairlane(scene.settings, "doctor", "books")
        settled = scene.rows.spent(in_flight=False)
        return Audit(
            rest_s=rest_s,
            redis=await read(scene.redis, scene.settings.fleet.namespace),
            in_flight=scene.rows.held(),
            settled=settled,
            limits=self._limits(settled),
            doctor=Doctor(exit_code, tuple(check["state"] for check in told.get("checks", ()))),
        )

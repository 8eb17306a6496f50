"""What the scenes of one test process share: a Valkey, a zygote, twins, and an empty ledger to copy."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.chaos.crossings import Boundary
from tests.chaos.forks import ForkedWorker, Nursery, Strike, TwinFork
from tests.chaos.scene import Scene, settings_for
from tests.servers import Valkey, wait_until
from worker.ledger.ledger import Ledger

# Texts that the twin answers otherwise than usual.
BILLED_FAILURE = "[a billed failure]"
SLOW = "[a slow answer]"
RULES = [
    {"match": {"contains": BILLED_FAILURE, "model": "twin-small"}, "status": 502, "bill": True},
    {"match": {"contains": SLOW}, "latency_ms": 1200, "chunk_ms": 20},
]


class Stage:
    """`with`. Scenes on it may run at the same time: each has a namespace, a ledger and a twin of its own."""

    def __init__(self, folder: Path, valkey: Valkey) -> None:
        self.folder = folder
        self.valkey = valkey
        self.nursery = Nursery(folder)
        self.plain_life: list[Boundary] = []  # as it was recorded once, for others to be compared with
        self._empty_ledger = folder / "empty.sqlite"
        self._free_twins: list[TwinFork] = []

    def __enter__(self) -> Stage:
        Ledger(f"sqlite:///{self._empty_ledger}").migrate()
        self.nursery.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.nursery.__exit__(kind, error, trace)

    @asynccontextmanager
    async def scene(self, *, valkey: Valkey | None = None, **changes: Any) -> AsyncIterator[Scene]:
        """A fleet of its own; `changes` are WorkerSettings', `valkey` is a server to kill or flush."""
        name = f"c{uuid.uuid4().hex[:10]}"
        folder = self.folder / name
        folder.mkdir()
        twin = self._free_twins.pop() if self._free_twins else self._new_twin()
        if "ledger_url" not in changes:
            shutil.copy(self._empty_ledger, folder / "ledger.sqlite")
        broker_url = (valkey or self.valkey).broker_url
        settings = settings_for(folder, broker_url=broker_url, namespace=name, local_url=twin.url, **changes)
        async with Scene(settings) as scene:
            try:
                await scene.behave(*RULES)
                yield scene
            finally:
                scene.end_workers()
                await scene.twin.post("/twin/reset")
        self._free_twins.append(twin)

    def worker(self, scene: Scene, strike: Strike | None = None, **changes: Any) -> ForkedWorker:
        """A worker process of a scene, which ends with it."""
        worker = self.nursery.worker(replace(scene.settings, **changes), strike)
        scene.workers.append(worker)
        return worker

    def _new_twin(self) -> TwinFork:
        twin = self.nursery.twin(self.folder / f"books-{uuid.uuid4().hex[:10]}.jsonl")
        wait_until(lambda: twin.url, what="the twin")
        return twin

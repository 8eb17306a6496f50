"""`fairlane …` as an operator runs it, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from worker.app import environment
from worker.settings import WorkerSettings

PATIENCE_S = 60.0


async def fairlane(settings: WorkerSettings, *words: str) -> tuple[int, dict[str, Any]]:
    """Its exit code, and what it says with --json."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "worker.cli", *words, "--json"),
        env=environment(settings.to_env()),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said, _errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    except TimeoutError:
        process.kill()
        raise
    told: dict[str, Any] = json.loads(said) if said else {}
    assert process.returncode is not None
    return process.returncode, told

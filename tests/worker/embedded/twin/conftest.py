"""A twin on a port of its own for every test, and a plain HTTP client to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from worker.embedded.twin import Twin


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[Twin]:
    """A twin over real HTTP that writes its books to a file."""
    async with Twin(books=tmp_path / "books.jsonl") as server:
        yield server


@pytest.fixture
async def http(twin: Twin) -> AsyncIterator[httpx.AsyncClient]:
    """A client that knows nothing of Fairlane."""
    async with httpx.AsyncClient(base_url=twin.url, trust_env=False, timeout=10.0) as client:
        yield client

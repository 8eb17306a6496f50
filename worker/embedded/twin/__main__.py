"""`python -m worker.embedded.twin --port 0 --books FILE`: prints one JSON line when ready, ends on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import sys
from pathlib import Path

from worker.embedded.twin.prompt_cache import MINIMUM_TOKENS
from worker.embedded.twin.server import Twin

_OPEN_FILES = 8192


async def run(twin: Twin) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with twin:
        sys.stdout.write(json.dumps({"url": twin.url}) + "\n")
        sys.stdout.flush()
        await ended.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(
        description="A local LLM provider that keeps books and is wrong on command."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--books", type=Path, help="JSON lines that outlive a kill")
    parser.add_argument(
        "--cache-minimum", type=int, default=MINIMUM_TOKENS, help="tokens of the shortest prefix"
    )
    given = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    asyncio.run(run(Twin(port=given.port, books=given.books, cache_minimum=given.cache_minimum)))


if __name__ == "__main__":
    main()

"""An upstream whose words are the times at which they were sent: `python -m benchmarks.stamped_upstream`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from benchmarks.rig import python


async def answer(request: web.Request) -> web.StreamResponse:
    """So many words as the path says, so many ms apart."""
    await request.read()
    words, every_ms = int(request.match_info["words"]), int(request.match_info["every_ms"])
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(words):
        await asyncio.sleep(every_ms / 1000)
        await response.write(_chunk({"content": f"{time.time_ns()} "}))
    usage = {"prompt_tokens": 20, "completion_tokens": words, "total_tokens": 20 + words}
    await response.write(_chunk({}, finish_reason="stop", usage=usage) + b"data: [DONE]\n\n")
    return response


def _chunk(delta: dict[str, str], *, finish_reason: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'model': 'twin-small', 'choices': [choice], **fields})}\n\n".encode()


async def serve() -> None:
    """Until it is killed; its address is its first line."""
    app = web.Application()
    app.router.add_post("/{words}/{every_ms}/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


@contextmanager
def stamped_upstream() -> Iterator[str]:
    """Its address."""
    child = subprocess.Popen(python("benchmarks.stamped_upstream"), stdout=subprocess.PIPE)
    try:
        assert child.stdout
        yield child.stdout.readline().decode().strip()
    finally:
        child.kill()
        child.wait(20)


if __name__ == "__main__":
    asyncio.run(serve())

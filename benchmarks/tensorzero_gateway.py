"""TensorZero's gateway from its Python package; runs in the environment that `budget_burst` makes for it.

`python tensorzero_gateway.py CONFIG VALKEY_URL` prints one JSON line with its OpenAI base URL, and serves until it is
killed. The package starts its gateway by a private function alone.
"""

from __future__ import annotations

import asyncio
import json
import sys

import tensorzero  # type: ignore[import-not-found]


async def serve(config: str, valkey_url: str) -> None:
    """Until it is killed."""
    gateway = await tensorzero._start_http_gateway(
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=valkey_url, async_setup=True
    )
    print(json.dumps({"url": gateway.base_url}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))

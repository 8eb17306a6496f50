"""Which models the server at FAIRLANE_LOCAL_URL has: what it does not have is in no plan."""

from __future__ import annotations

import logging

import httpx

from worker.addresses import refused_host
from worker.routing_file import RoutingFile

ASK_S = 2.0
MOST_BYTES = 1_000_000
logger = logging.getLogger(__name__)


async def not_served(
    client: httpx.AsyncClient, routing: RoutingFile, local_url: str | None
) -> dict[str, str]:
    """Deployments whose model that server does not name; none where it does not say what it has."""
    local = [one for one in routing.deployments().values() if one.provider.base_url_env]
    if not local or not local_url or refused_host(local_url):
        return {}
    served = await served_models(client, local_url)
    if served is None:
        return {}
    return {
        one.name: f"the server at FAIRLANE_LOCAL_URL has no model {one.model}"
        for one in local
        if not served & {one.model, f"{one.model}:latest"}
    }


async def served_models(client: httpx.AsyncClient, url: str) -> frozenset[str] | None:
    """The names in its list of models, as OpenAI's and Anthropic's API give it; None: it gives none."""
    try:
        reply = await client.get(f"{url.rstrip('/').removesuffix('/v1')}/v1/models", timeout=ASK_S)
        if reply.status_code != 200 or len(reply.content) > MOST_BYTES:
            return None
        return frozenset(str(one["id"]) for one in reply.json()["data"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        logger.info(
            "the server at FAIRLANE_LOCAL_URL does not say which models it has: %s", type(error).__name__
        )
        return None

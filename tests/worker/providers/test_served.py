"""What the server at FAIRLANE_LOCAL_URL does not have is in no plan."""

from __future__ import annotations

import json

import pytest

from tests.worker.job_runs import deployment, routing_of
from tests.worker.providers.attempts import settings
from tests.worker.providers.raw_server import Connection, RawServer
from worker.embedded.twin import TWIN_PRICES, Twin
from worker.providers.client import open_client
from worker.providers.served import not_served, served_models
from worker.routing_file import Provider

LOCAL = Provider("local", "openai", "", base_url_env="FAIRLANE_LOCAL_URL")
ROUTING = routing_of(
    aliases={
        "a": (deployment("twin-small", provider=LOCAL), deployment("smollm2-135m", provider=LOCAL)),
        "b": (deployment("smollm2-135m"),),
    }
)


async def test_a_deployment_whose_model_the_local_server_does_not_have_is_left_out():
    async with Twin() as twin, open_client(settings()) as client:
        for url in (twin.url, f"{twin.url}/v1", f"{twin.url}/v1/"):
            assert await served_models(client, url) == frozenset(TWIN_PRICES)
        local = ROUTING.aliases["a"][1].name
        reason = "the server at FAIRLANE_LOCAL_URL has no model smollm2-135m"
        routing = routing_of(aliases={"a": ROUTING.aliases["a"]})
        assert await not_served(client, routing, twin.url) == {local: reason}
        assert await not_served(client, routing_of(), twin.url) == {}, "providers elsewhere are not asked"


def whole(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"nothing here", "404 Not Found"),
        whole(b"not json"),
        whole(b'{"data": "many"}'),
        whole(b'{"object": "list"}'),
        whole(json.dumps([1]).encode()),
    ],
)
async def test_a_server_that_does_not_say_what_it_has_is_believed_to_have_it(answer: bytes):
    async def say(connection: Connection) -> None:
        await connection.send(answer)

    async with RawServer(say) as server, open_client(settings()) as client:
        assert await served_models(client, server.url) is None
        assert await not_served(client, ROUTING, server.url) == {}


async def test_names_with_the_latest_tag_are_names():
    body = json.dumps({"data": [{"id": "twin-small:latest"}, {"id": "smollm2-135m"}]}).encode()

    async def say(connection: Connection) -> None:
        await connection.send(whole(body))

    async with RawServer(say) as server, open_client(settings()) as client:
        assert await not_served(client, ROUTING, server.url) == {}


async def test_a_metadata_service_is_not_asked():
    async with open_client(settings()) as client:
        assert await not_served(client, ROUTING, "http://169.254.169.254") == {}

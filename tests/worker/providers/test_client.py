"""The one client of a process: how many calls it can hold, and that nothing of one call reaches another."""

from __future__ import annotations

import resource
from dataclasses import replace

import httpx
import pytest

from tests.worker.providers.attempts import attempt, key, no_proceed, settings
from worker.assembly import unusable
from worker.embedded.twin import Twin
from worker.errors import FailureKind, ProviderError
from worker.providers.client import MOST_CONNECTIONS, Clients, allow_open_files, open_client
from worker.providers.step import CallProvider
from worker.routing_file import Deployment, Provider, RoutingFile


async def test_the_client_keeps_to_the_settings_and_never_follows_or_borrows():
    async with open_client(settings(connect_timeout_s=3.0)) as client:
        assert client.timeout == httpx.Timeout(connect=3.0, read=600.0, write=60.0, pool=None)
        assert not client.follow_redirects
        assert not client.trust_env
        assert client.headers["accept-encoding"] == "identity"


async def test_the_network_can_be_replaced():
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, text="instant"))
    async with open_client(settings(), transport=transport) as client:
        assert (await client.get("http://nowhere.invalid")).text == "instant"


def test_the_limit_of_open_files_is_raised_and_never_lowered():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        allow_open_files(512)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
        allow_open_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert MOST_CONNECTIONS >= 2000


def routed(*providers: Provider) -> RoutingFile:
    """A routing file of these providers alone."""
    named = {provider.name: provider for provider in providers}
    return RoutingFile(version="test", providers=named, aliases={}, tasks={}, tiers={}, tenants={})


async def tried(url: str, routing: RoutingFile | None = None) -> tuple[FailureKind, str, str | None]:
    """How a call to this address fails."""
    async with open_client(settings(connect_timeout_s=0.3), routing) as client:
        with pytest.raises(ProviderError) as caught:
            await CallProvider(client=client, keys=key("sk")).run(attempt(url), no_proceed)
    return caught.value.kind, caught.value.billed, caught.value.code


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "0xA9FEA9FE", "[::ffff:a9fe:a9fe]", "[fe80::1]", "[fd00:ec2::254]"],
)
async def test_no_connection_is_opened_to_a_link_local_address_whatever_resolved_to_it(host: str):
    other = Provider("other", "openai", "http://169.254.7.7", allow_link_local=True)
    for routing in (None, routed(other)):
        assert await tried(f"http://{host}", routing) == (FailureKind.CONNECT_ERROR, "no", "link_local")


async def test_a_provider_that_may_be_there_is_connected_to():
    said = Provider("near", "openai", "http://[fe80::1]:9/v1", allow_link_local=True)
    kind, billed, code = await tried(said.base_url, routed(said))  # without its interface it has no route
    assert (kind, billed) == (FailureKind.CONNECT_ERROR, "no")
    assert code != "link_local"


async def test_a_routing_file_gets_the_client_of_the_hosts_that_it_allows_and_no_other():
    near = Provider("near", "openai", "http://169.254.7.7", allow_link_local=True)
    clients = Clients(settings())
    usual, allowing = clients.of(routed()), clients.of(routed(near))
    assert clients.of(routed(replace(near, allow_link_local=False))) is usual
    assert clients.of(routed(replace(near, name="renamed"))) is allowing is not usual
    await clients.close()
    assert usual.is_closed
    assert allowing.is_closed


async def test_loopback_is_connected_to():
    async with Twin() as twin, open_client(settings(), routed()) as client:
        assert (await CallProvider(client=client).run(attempt(twin.url), no_proceed)).text


def test_a_deployment_at_a_link_local_address_of_the_environment_is_left_out():
    local = Provider("local", "openai", "", base_url_env="FAIRLANE_LOCAL_URL")
    for provider, expected in (
        (local, {"local/m": "its address is link-local or a cloud's metadata service"}),
        (replace(local, allow_link_local=True), {}),
    ):
        deployment = Deployment("local/m", provider, "m", 100, 10)
        routing = replace(routed(provider), aliases={"a": (deployment,)})
        assert unusable(routing, settings(local_url="http://169.254.169.254"), {}) == expected

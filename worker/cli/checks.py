"""What `fairlane doctor` looks at: each check is a name, whether it holds, and a sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import redis

from producer_sdk.settings import redis_url
from worker.budget.catalogue import rate_cards
from worker.cli.opened import ask_what_is_served
from worker.embedded.home import Home
from worker.errors import ConfigError
from worker.providers.keys import Keys, source_of
from worker.routing.vocabularies import uncounted, without_extra
from worker.routing_file import Provider, RoutingFile
from worker.routing_load import load
from worker.settings import WorkerSettings, key_variable

State = Literal["ok", "bad", "note"]
TIMEOUT_S = 3.0
MOST_SKEW_S = 2.0
DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
WHY = {
    "appendonly": "a restart of the broker loses every waiting job",
    "appendfsync": "a kill of the broker can lose jobs that were accepted",
    "maxmemory-policy": "a full broker forgets jobs silently",
}


@dataclass(frozen=True)
class Check:
    """One finding: ok, bad, or a note that is no fault."""

    name: str
    state: State
    said: str


def held(holds: bool, name: str, said: str, *, fault: str) -> Check:
    """A check that holds, or its fault."""
    return Check(name, "ok", said) if holds else Check(name, "bad", fault)


def broker_checks(settings: WorkerSettings) -> Iterator[Check]:
    """Reachable, durable, never evicting, and its clock."""
    client = redis.Redis.from_url(
        redis_url(settings.fleet.broker_url),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        decode_responses=True,
    )
    try:
        about = client.info("server")
        version = about.get("valkey_version") or about.get("redis_version")
        yield Check("broker", "ok", f"it answers (version {version})")
        yield from _durability(client)
        yield _clock(client)
    except redis.AuthenticationError:
        yield Check("broker", "bad", "it refuses the password of FAIRLANE_BROKER_URL")
    except redis.RedisError as error:
        said = f"it does not answer ({type(error).__name__}): run `fairlane up`, or check FAIRLANE_BROKER_URL"
        yield Check("broker", "bad", said)
    finally:
        client.close()


def _durability(client: redis.Redis) -> Iterator[Check]:
    try:
        found = client.config_get(*DURABLE)
    except redis.ResponseError:
        yield Check(
            "broker durability", "note", "it does not tell its configuration: AOF must be on, fsync always"
        )
        return
    for name, wanted in DURABLE.items():
        now = found.get(name, "unknown")
        said = f"{name} is {now}"
        fault = f"{said}: {WHY[name]}; set it to {wanted}"
        yield held(now == wanted, f"broker {name}", said, fault=fault)


def _clock(client: redis.Redis) -> Check:
    before = time.time()
    seconds, micros = client.time()
    skew_s = abs((before + time.time()) / 2 - (int(seconds) + int(micros) / 1e6))
    said = f"it agrees with the broker's to {skew_s * 1000:.0f} ms"
    fault = f"it differs from the broker's by {skew_s:.1f} s: deadlines are off, check NTP"
    return held(skew_s < MOST_SKEW_S, "clock", said, fault=fault)


def routing_checks(settings: WorkerSettings) -> Iterator[Check]:
    """routing.yaml loads; each provider's key; each task has a deployment that can be called; prices."""
    try:
        routing = load(settings.routing_path)
    except ConfigError as error:
        yield Check("routing", "bad", str(error))
        return
    yield Check("routing", "ok", f"{settings.routing_path.name} is valid (version {routing.version})")
    twin = Home(settings.home).upstream()
    usable = set(_usable(routing, settings, twin))
    for provider in routing.providers.values():
        state: State = "ok" if provider.name in usable else "note"
        yield Check(f"provider {provider.name}", state, _key_said(provider, keys_of(settings), usable, twin))
    yield from _own_key_checks(routing, keys_of(settings))
    try:
        priced, unpriced = rate_cards(
            routing.deployments(), cache_dir=settings.home if settings.home.is_dir() else None
        )
    except ConfigError as error:
        yield Check("prices", "bad", str(error))
        return
    yield from _price_checks(routing, unpriced, usable)
    yield from _tokenizer_check(routing, usable)
    called = replace(settings, local_url=settings.local_url or twin)
    callable_now = set(priced) - set(asyncio.run(ask_what_is_served(called, routing)))
    yield from _task_checks(
        routing, callable_now=lambda name, provider: provider in usable and name in callable_now
    )


def _price_checks(routing: RoutingFile, unpriced: Mapping[str, str], usable: set[str]) -> Iterator[Check]:
    for name, why in unpriced.items():
        state: State = "bad" if routing.deployments()[name].provider.name in usable else "note"
        yield Check(f"price of {name}", state, f"{why}: it is left out of plans")


def _tokenizer_check(routing: RoutingFile, usable: set[str]) -> Iterator[Check]:
    """Only where a deployment that can be called has a vocabulary which is not installed here."""
    names = uncounted(d for d in routing.deployments().values() if d.provider.name in usable)
    if names:
        yield Check("tokens", "note", without_extra(names))


def _usable(routing: RoutingFile, settings: WorkerSettings, twin: str | None) -> Iterator[str]:
    keys = keys_of(settings)
    for provider in routing.providers.values():
        reachable = bool(provider.base_url) or bool(settings.local_url or twin)
        tenants = [None, *(one for one in routing.tenants.values() if provider.name in one.keys)]
        if reachable and any(keys.why_none(provider, one) is None for one in tenants):
            yield provider.name


def keys_of(settings: WorkerSettings) -> Keys:
    """The keys as a worker with these settings would find them."""
    return Keys(key_variable, in_use=settings.uses_keys)


def _own_key_checks(routing: RoutingFile, keys: Keys) -> Iterator[Check]:
    for tenant in routing.tenants.values():
        for name, source in tenant.keys.items():
            why = keys.why_none(routing.providers[name], tenant)
            said = f"{source.named} is set" if why is None else f"{why}: it is not called for {tenant.name}"
            yield Check(f"{tenant.name}'s key of {name}", "note" if why else "ok", said)


def _key_said(provider: Provider, keys: Keys, usable: set[str], twin: str | None) -> str:
    source = source_of(provider, None)
    if provider.name not in usable:
        missing = keys.why_none(provider) or f"{provider.base_url_env} is not set"
        return f"{missing}: its deployments are left out of plans"
    if source:
        only = "only tenants with keys of their own are called there"
        return f"{source.named} is set" if keys.key_of(provider) else f"{keys.why_none(provider)}: {only}"
    return (
        f"it is what the fleet on this home serves itself, {twin}"
        if twin
        else f"{provider.base_url_env} is set"
    )


def _task_checks(routing: RoutingFile, *, callable_now: Callable[[str, str], bool]) -> Iterator[Check]:
    for task in routing.tasks.values():
        aliases = (task.default, *task.fallback)
        names = {
            d.name
            for alias in aliases
            for d in routing.aliases[alias]
            if callable_now(d.name, d.provider.name)
        }
        fault = "no deployment can be called: set a provider's key, or FAIRLANE_LOCAL_URL"
        yield held(
            bool(names), f"task {task.name}", f"deployments that can be called: {len(names)}", fault=fault
        )


def lanes_check(counts: Mapping[str, Any]) -> Check:
    """Dead letters are a fault; waiting jobs are not."""
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    fault = f"{said}: see `fairlane dead list`"
    return held(not counts.get("dead"), "lanes", said, fault=fault)

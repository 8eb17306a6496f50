"""Providers in routing.yaml: where calls go, in which dialect, with whose key."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from worker.addresses import refused_host
from worker.routing_file import Dialect, KeySource, Provider
from worker.routing_load.budgets import BUDGET_KEYS, budget_of
from worker.routing_load.takes import capabilities_of
from worker.routing_load.yaml_nodes import Fields, Place, did_you_mean

KEY_KEYS = ("key_env", "key_file")
PROVIDER_KEYS = (
    "dialect",
    "base_url",
    "base_url_env",
    *KEY_KEYS,
    "allow_link_local",
    "capabilities",
    *BUDGET_KEYS,
)
LOCAL_URL_ENV = "FAIRLANE_LOCAL_URL"
_SOURCE = "{key_env: VARIABLE} or {key_file: /path}, never the key itself"
_ENVIRONMENT_NAME = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_URL = re.compile(r"https?://[^\s/@\\?#]+(/[^\s@]*)?", re.ASCII)


def provider_of(name: str, place: Place, *, local_url: str | None) -> Provider:
    """One provider; `local_url`: what FAIRLANE_LOCAL_URL holds, where it is to be checked."""
    fields = place.fields(PROVIDER_KEYS, required=("dialect",))
    if "base_url" not in fields.entries and "base_url_env" not in fields.entries:
        place.fault("'base_url' is missing: add it, or 'base_url_env'")
    key, base_url_env = _key_source(fields), fields.text("base_url_env")
    if base_url_env and base_url_env != LOCAL_URL_ENV:
        fields.entries["base_url_env"].fault(f"found '{base_url_env}', only {LOCAL_URL_ENV} is read")
    base_url = fields.text("base_url")
    if base_url and not _is_url(base_url):
        fields.entries["base_url"].fault(
            "write a URL that starts with https:// or http:// and holds no password"
        )
    allowed = fields.truth("allow_link_local", default=False)
    if not allowed:
        _check_address(fields.entries.get("base_url"), base_url)
        _check_address(fields.entries.get("base_url_env"), local_url)
    return Provider(
        name=name,
        dialect=fields.choice("dialect", get_args(Dialect)) or "openai",
        base_url=(base_url or "").rstrip("/"),
        key_env=key.env,
        key_file=key.file,
        base_url_env=base_url_env,
        budget=budget_of(fields),
        allow_link_local=allowed,
        capabilities=capabilities_of(fields),
    )


def own_keys_of(fields: Fields, providers: Collection[str]) -> dict[str, KeySource]:
    """A tenant's `keys`: by provider, where its own key is."""
    found: dict[str, KeySource] = {}
    if "keys" in fields.entries and not fields.entries["keys"].names():
        fields.entries["keys"].fault(f"write a mapping of providers, each to {_SOURCE}")
        return found
    for name, place in fields.entries_of("keys").items():
        if name not in providers:
            place.fault(f"there is no provider '{name}'{did_you_mean(name, providers)}")
        elif not place.names():
            place.fault(f"write {_SOURCE}")
        else:
            found[name] = _key_source(place.fields(KEY_KEYS))
    return found


def _key_source(fields: Fields) -> KeySource:
    """Where a key is; nowhere where neither is said."""
    env, file = fields.text("key_env"), fields.text("key_file")
    if env and not _ENVIRONMENT_NAME.fullmatch(env):
        fields.entries["key_env"].fault(
            "write an environment variable's name, for example OPENAI_API_KEY, never the value itself"
        )
    if file and not file.startswith("/"):
        fields.entries["key_file"].fault(
            "write a file's path from / on, for example /run/secrets/openai, never the key itself"
        )
    if env and file:
        fields.entries["key_file"].fault(
            "a key is in a variable or in a file: remove 'key_env' or 'key_file'"
        )
    return KeySource(env=env, file=Path(file) if file else None)


def _is_url(text: str) -> bool:
    try:
        return bool(_URL.fullmatch(text) and urlsplit(text).hostname and urlsplit(text).port != 0)
    except ValueError:  # brackets that hold no IPv6 address, a port that is no number
        return False


def _check_address(place: Place | None, url: str | None) -> None:
    host = refused_host(url) if url else None
    if place and host:
        place.fault(
            f"'{host}' is a link-local address or a cloud's metadata service, where keys and prompts must not go: "
            "write the provider's own address, or 'allow_link_local: true' if a model is served there"
        )

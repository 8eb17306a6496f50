"""Whose key a call is made with, and where it lies now: a variable, or a file that is read anew when it changes."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.routing_file import KeySource, Provider, RoutingFile, Tenant

LOOK_S = 1.0  # how old what is known of a file may be
MOST_BYTES = 16 * 1024
User = tuple[str, str]  # a provider, and the tenant whose own key of it this is; "": the fleet's
_NOBODY: frozenset[User] = frozenset()
UNUSED = "no provider's key is used here"


@dataclass(frozen=True)
class _Found:
    """A key, or why there is none."""

    key: str | None = None
    why: str = ""

    def __repr__(self) -> str:
        return f"_Found({self.why or 'a key'})"


@dataclass(frozen=True)
class _Read:
    """What was in a file when it was last read, and by which signs a change of it is known."""

    found: _Found
    signs: tuple[int, ...] = ()
    looked: float = 0.0


class Keys:
    """Answers key_of(provider, tenant). A tenant's own key for a provider always goes before the fleet's.

    Files are looked at when a key is asked for, at most once a second each. `variable`: what an environment variable
    holds; `in_use` False: nobody has any key.
    """

    def __init__(
        self,
        variable: Callable[[str], str | None] = lambda _name: None,
        *,
        in_use: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._variable = variable
        self._in_use = in_use
        self._clock = clock
        self._files: dict[Path, _Read] = {}
        self._users: dict[Path, set[User]] = {}
        self._renewed: set[User] = set()

    def key_of(self, provider: Provider, tenant: Tenant | None = None) -> str | None:
        """The key that this tenant's calls of this provider carry; None where there is none, or none is needed."""
        source = source_of(provider, tenant)
        return self._found(source, _user(provider, tenant)).key if source else None

    def why_none(self, provider: Provider, tenant: Tenant | None = None) -> str | None:
        """Why this tenant's calls of this provider cannot be made for want of a key; None: they can."""
        own = tenant is not None and provider.name in tenant.keys
        if tenant is not None and tenant.own_keys_only and not own:
            return f"{tenant.name} is called with its own keys only, and has none of {provider.name}"
        source = source_of(provider, tenant)
        why = self._found(source, _user(provider, tenant)).why if source else ""
        return f"{why} (the tenant's own key)" if why and own else why or None

    def has_changed(self, provider: Provider, tenant: Tenant | None, sent: str | None) -> bool:
        """Whether another key than the one that was sent is there now, however shortly ago the file was looked at."""
        source = source_of(provider, tenant)
        if source is None or source.file is None:
            return False
        return self._in_file(source.file, at_once=True).key not in (None, sent)

    def renewed(self) -> frozenset[User]:
        """Whose keys have changed in their files since this was asked: what was met with the old ones is over."""
        if not self._renewed:
            return _NOBODY
        found, self._renewed = frozenset(self._renewed), set()
        return found

    def _found(self, source: KeySource, user: User) -> _Found:
        if not self._in_use:
            return _Found(why=UNUSED)
        if source.file is not None:
            self._users.setdefault(source.file, set()).add(user)
            return self._in_file(source.file)
        value = self._variable(source.env or "")
        return checked(value, source.named) if value else _Found(why=f"no {source.named}")

    def _in_file(self, path: Path, *, at_once: bool = False) -> _Found:
        now, before = self._clock(), self._files.get(path)
        if before is not None and not at_once and now - before.looked <= LOOK_S:
            return before.found
        found = self._files[path] = _look(path, before, now)
        if before is not None and found.found.key not in (None, before.found.key):
            self._renewed |= self._users.get(path, _NOBODY)
        return found.found


def _user(provider: Provider, tenant: Tenant | None) -> User:
    return provider.name, tenant.name if tenant and provider.name in tenant.keys else ""


def source_of(provider: Provider, tenant: Tenant | None) -> KeySource | None:
    """Where the key of this tenant's calls of this provider is; None: they need none."""
    own = tenant.keys.get(provider.name) if tenant else None
    if own or not (provider.key_env or provider.key_file):
        return own
    return KeySource(env=provider.key_env, file=provider.key_file)


def keyless(routing: RoutingFile, keys: Keys) -> dict[str, str]:
    """Deployments whose calls have no key now, and will have none while this process runs: a file may come later."""
    tenants = [one for one in routing.tenants.values() if one.keys]
    reasons: dict[str, str] = {}
    for deployment in routing.deployments().values():
        provider = deployment.provider
        why = None if provider.key_file else keys.why_none(provider)
        if why and not any(provider.name in one.keys for one in tenants):
            reasons[deployment.name] = why
    return reasons


def checked(value: str, named: str) -> _Found:
    """The key in `value`; spaces and line ends around it are not part of it."""
    key = value.strip()
    if not key:
        return _Found(why=f"{named} is empty")
    if not (key.isascii() and key.isprintable()):
        return _Found(why=f"{named} holds what is no key: more than one line, or a control character")
    return _Found(key)


def _look(path: Path, before: _Read | None, now: float) -> _Read:
    """Read the file if it is not the one that was read before. A pipe or a device is never waited for."""
    try:
        about = path.stat()
        signs = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        if before is not None and before.signs == signs:
            return _Read(before.found, signs, now)
        return _Read(_content(path, about), signs, now)
    except OSError as error:
        return _Read(_Found(why=f"{path} cannot be read ({error.strerror})"), (), now)


def _content(path: Path, about: os.stat_result) -> _Found:
    if not stat.S_ISREG(about.st_mode):
        return _Found(why=f"{path} is no file")
    if about.st_size > MOST_BYTES:
        return _Found(why=f"{path} is too large for a key")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return checked(file.read(MOST_BYTES).decode(errors="replace"), str(path))

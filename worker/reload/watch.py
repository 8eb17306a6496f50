"""A routing.yaml that may be replaced at any time, or be written while it is read."""

from __future__ import annotations

from pathlib import Path

from worker.errors import ConfigError
from worker.routing_load import Source, source_of

Found = Source | ConfigError


class WatchedFile:
    """Tells each change once: when two looks in a row have found the same, so that no half-written file counts."""

    def __init__(self, path: Path, settled: Found) -> None:
        """`settled`: what is known of it already."""
        self._path = path
        self._settled, self._last = _mark(settled), _mark(settled)

    def look(self) -> Found | None:
        """What stands there now, if that is new; why it cannot be read, if that is new. Blocks."""
        found = found_at(self._path)
        last, self._last = self._last, _mark(found)
        if self._last != last or self._last == self._settled:
            return None
        self._settled = self._last
        return found


def found_at(path: Path) -> Found:
    """The file's bytes, or why they cannot be read. Blocks."""
    try:
        return source_of(path)
    except ConfigError as error:
        return error


def _mark(found: Found) -> bytes | None:
    return found.content if isinstance(found, Source) else None

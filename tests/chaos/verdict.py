"""What a long form says at its end: a table, and what was broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path


def tell(
    title: str, rows: Iterable[tuple[str, str]], violations: Sequence[str], *, folder: Path, markdown: bool
) -> int:
    """Print it and return the exit status; `folder` with its logs stays only where something was broken."""
    if markdown:
        print(f"| {title} | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |" if markdown else f"{name:<50} {value}")
    if not violations:
        shutil.rmtree(folder)
        return 0
    for violation in violations:
        print(f"BROKEN: {violation}")
    print(f"the logs are in {folder}")
    return 1

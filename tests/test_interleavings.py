"""docs/interleavings.md and the tests that bear its numbers name each other."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "docs" / "interleavings.md").read_text()
NOT_BUILT = {20, 21, 22}
NUMBERED = re.compile(
    r"^(?:async )?def test_(?:interleaving_)?(\d{1,2})(?:_and_(\d{1,2}))?_[a-z]", re.MULTILINE
)


def listed() -> dict[int, set[str]]:
    """The files that the document names for each row."""
    rows = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|$", TABLE, re.MULTILINE)
    return {int(number): set(re.findall(r"`(tests/[\w/]+\.py)`", files)) for number, files in rows}


def numbered() -> dict[int, set[str]]:
    """The files that have a test with a row's number in its name."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for numbers in NUMBERED.findall(path.read_text()):
            for number in filter(None, numbers):
                found[int(number)].add(str(path.relative_to(ROOT)))
    return dict(found)


def test_every_row_has_a_test_by_its_number_and_every_such_test_is_listed() -> None:
    assert listed() == numbered()


def test_no_row_is_left_out() -> None:
    assert set(listed()) == set(range(1, 28)) - NOT_BUILT

"""Memory that glibc keeps is given back."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from worker import memory


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory so")
def test_what_a_burst_has_used_is_given_back():
    burst = [bytearray(2_000) for _ in range(50_000)]
    kept = burst[::500]  # each holds its neighbourhood of the heap in place
    del burst
    before = resident_mb()
    assert memory.give_back()
    assert resident_mb() < before - 50
    assert len(kept) == 100

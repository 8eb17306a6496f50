"""Gives memory that is free inside this process back to the machine: glibc keeps what a burst of calls has used."""

from __future__ import annotations

import ctypes

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it, and only glibc needs it


def give_back() -> bool:
    """Whether anything was given back. Takes some milliseconds: not on the event loop."""
    return bool(_TRIM and _TRIM(0))

"""Whether a worker's file becomes the fleet's, and which version a worker has to run."""

from __future__ import annotations

from typing import Literal

HEARD_OF_S = 60.0  # a worker that has said nothing for so long is gone


def may_publish(*, in_force: str | None, was: str | None, is_known: bool, is_alone: bool) -> bool:
    """Whether a file that differs from the version in force replaces it.

    It does if the fleet never had it; if the file was the version in force until now (`was`; None: the worker has just
    started), for then somebody has changed it back on purpose; and if no other worker lives. Else it is an old one: of
    a worker from before a deployment, or of a machine that was behind.
    """
    return in_force is None or not is_known or was == in_force or is_alone


def course(
    *, running: tuple[int, str], in_force: tuple[int, str] | None
) -> Literal["stay", "change", "restore"]:
    """What follows from the number and version that a worker runs, and those in force.

    A database that was set back, or made anew, has a lower number: the highest one that a worker runs goes on.
    """
    if in_force is None or in_force[0] < running[0]:
        return "restore"
    return "stay" if in_force[1] == running[1] else "change"


def set_aside(version: str, in_force: str) -> str:
    """Why a worker does not run its own file, and what to do."""
    return (
        f"this worker's file has version {version}, which the fleet has left for {in_force}: put the file in force "
        "there, or make this one the fleet's with `fairlane routing publish FILE`"
    )

"""Which file becomes the fleet's, and which version a worker has to run."""

from __future__ import annotations

import pytest

from worker.reload import rules

OLD_AND_NOT_ALONE = {"in_force": "b", "was": None, "is_known": True, "is_alone": False}


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, False),
        ({"in_force": None}, True),
        ({"is_known": False}, True),
        ({"was": "b"}, True),
        ({"was": "a"}, False),
        ({"is_alone": True}, True),
    ],
    ids=["an old file", "the first", "a new one", "changed back", "behind, and still behind", "nobody else"],
)
def test_a_file_becomes_the_fleets_if_it_is_new_or_was_put_in_the_place_of_the_one_in_force(
    changes: dict[str, object], may: bool
) -> None:
    assert rules.may_publish(**(OLD_AND_NOT_ALONE | changes)) is may


@pytest.mark.parametrize(
    ("running", "in_force", "what"),
    [
        ((0, "a"), None, "restore"),
        ((3, "c"), (2, "b"), "restore"),
        ((3, "c"), (3, "c"), "stay"),
        ((0, "c"), (3, "c"), "stay"),
        ((2, "b"), (3, "c"), "change"),
        ((0, "a"), (3, "c"), "change"),
        ((3, "c"), (3, "d"), "change"),
    ],
)
def test_a_worker_runs_what_is_in_force_unless_the_database_was_set_back(running, in_force, what) -> None:
    assert rules.course(running=running, in_force=in_force) == what

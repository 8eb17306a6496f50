"""What counts as asking the same, and what never does: loops are found, legitimate work is not taken for one."""

from __future__ import annotations

import time

import pytest

from producer_sdk.contract import ErrorCode, GenerationParams, Message, ToolCall
from tests.worker.job_runs import document, job_of
from worker.routing_file import Tier
from worker.runs.rules import Met, depth, end_of, normalised, sameness, too_deep

TIER = Tier("free", run_max_calls=20, run_max_depth=2, run_max_seconds=60, run_max_repeats=3)


def said(*texts: str) -> list[Message]:
    """A conversation, the user first."""
    return [Message(role="assistant" if n % 2 else "user", content=text) for n, text in enumerate(texts)]


def tool_turn(number: int, found: str = "pending") -> list[Message]:
    """The model asks a tool, which answers; ids are drawn anew each time."""
    call = ToolCall(id=f"call-{number}", name="status", arguments={"job": "x"})
    answer = Message(role="tool", content=found, tool_call_id=call.id)
    return [Message(role="assistant", tool_calls=[call]), answer]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("Fix the build.", "  fix   the\nBUILD. "),
        ("Attempt 3: fix the build", "attempt 17: fix the build"),
        ("Fix it (retry #4)", "Fix it (retry #5)"),
        ("This is the 2nd try. Fix it", "This is the 3rd try. Fix it"),
        ("[2026-11-24T10:54:32.118Z] fix it", "[2026-11-24T11:02:07.901Z] fix it"),
        ("Time: 10:54:32. The build is red", "Time: 23:01:59. The build is red"),
        ("Now = 2026-11-24 10:54:32+01:00, red", "Now = 2026-11-25 23:01:59+01:00, red"),
        ("timestamp: 1763980472 fix it", "timestamp: 1763980999 fix it"),
    ],
)
def test_what_a_loop_changes_does_not_hide_it(first: str, again: str):
    assert sameness(job_of(first)).request == sameness(job_of(again)).request


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Summarise page 7", "Summarise page 8"),
        ("What became of ticket 1017?", "What became of ticket 1018?"),
        ("Total of 2026-11-23", "Total of 2026-11-24"),
        ("Events from 2026-11-24T10:00:00Z on", "Events from 2026-11-24T11:00:00Z on"),
        ("Events from 10:00:00.000 on", "Events from 11:00:00.000 on"),
        ("What is said at 00:10:15 in the film?", "What is said at 00:12:47 in the film?"),
        ("Order 1763980472", "Order 1763980473"),
        ("Who is 018f3a5e-7c00-7000-8000-000000000001?", "Who is 018f3a5e-7c00-7000-8000-000000000002?"),
        ("Do step 3 of the plan", "Do step 4 of the plan"),
        ("Translate 'yes'", "Translate 'no'"),
    ],
)
def test_what_work_differs_by_keeps_it_apart(one: str, other: str):
    assert sameness(job_of(one)).request != sameness(job_of(other)).request


def test_a_map_over_documents_is_no_loop_whatever_they_differ_by():
    texts = [f"Log of 10:54:{second}, attempt {second}" for second in range(10, 60)]
    jobs = [job_of("Summarise", documents=[document(text)]) for text in texts]
    assert len({sameness(job).request for job in jobs}) == len(texts)


def test_a_map_over_inputs_is_no_loop_whatever_they_differ_by():
    jobs = [job_of(messages=[], inputs=["same", f"attempt {number}"]) for number in range(20)]
    assert len({sameness(job).request for job in jobs}) == 20


def test_task_prompt_version_and_parameters_count_and_names_of_jobs_do_not():
    same = sameness(job_of(run_id="a", metadata={"n": "1"}, priority=9))
    assert sameness(job_of(run_id="b", feature="f", parent_job_id="p")) == same
    params = GenerationParams(seed=2)
    for other in (job_of(task="other"), job_of(prompt_version="2"), job_of(params=params)):
        assert sameness(other).request != same.request


def test_a_growing_conversation_is_compared_by_its_last_two_turns():
    begun = said("Write it", "Please review", "Please apply")
    longer = [*begun, *said("Please review", "Please apply")]
    first, second = sameness(job_of(messages=begun)), sameness(job_of(messages=longer))
    assert first.request != second.request
    roles = [Message(role="assistant", content="Please review"), Message(role="user", content="Please apply")]
    third = sameness(job_of(messages=[*longer, *roles]))
    assert first.turns == third.turns
    assert (first.messages, third.messages) == (3, 7)
    assert sameness(job_of(messages=said("Write it", "Please review"))).turns is None


def test_a_tool_asked_in_vain_is_the_same_turn_and_another_answer_is_not():
    start = said("Wait for the job")
    once = sameness(job_of(messages=[*start, *tool_turn(1)]))
    again = sameness(job_of(messages=[*start, *tool_turn(1), *tool_turn(2)]))
    done = sameness(job_of(messages=[*start, *tool_turn(1), *tool_turn(2, "ready")]))
    assert once.turns == again.turns != done.turns


def test_continue_after_ever_new_text_is_no_repetition():
    turns = {sameness(job_of(messages=said("Go", f"Chapter {n}", "continue"))).turns for n in range(20)}
    assert len(turns) == 20


def test_a_text_of_a_megabyte_is_normalised_in_proportion_to_its_length():
    long = "attempt " * 60_000 + "10:5" * 100_000
    began = time.process_time()
    assert len(normalised(long)) > 0.99 * len(long)
    assert time.process_time() - began < 2.0


def test_depth_is_what_the_job_says_or_the_tree_knows_whichever_is_deeper():
    assert depth(job_of(run_id="c", depth=1), ("c", "b", "a")) == 2
    assert depth(job_of(run_id="c", depth=5), ("c",)) == 5
    assert depth(job_of(parent_run_id="a"), ("a",)) == 1
    assert depth(job_of(), ()) == 0


def test_a_job_too_deep_is_told_how_deep_it_may_be():
    assert too_deep(job_of(run_id="c"), ("c", "b", "a"), TIER) is None
    error = too_deep(job_of(run_id="d"), ("d", "c", "b", "a"), TIER)
    assert error is not None
    assert (error.code, error.status, error.reason, error.retryable) == (
        ErrorCode.RUN_CAP,
        429,
        "depth",
        False,
    )
    assert "3 runs deep and tier 'free' allows 2" in error.message
    assert too_deep(job_of(depth=1000), (), Tier("any")) is None


@pytest.mark.parametrize(
    ("met", "code", "words"),
    [
        (Met("calls", "r"), ErrorCode.RUN_CAP, "run 'r' has had its 20 jobs"),
        (Met("wall_time", "r"), ErrorCode.RUN_CAP, "run 'r' began more than 60 s ago"),
        (Met("stopped", "r", "it burns"), ErrorCode.RUN_CAP, "run 'r' was stopped (it burns): begin"),
        (Met("repeats", "r"), ErrorCode.LOOP_DETECTED, "run 'r' has asked the same 3 times"),
    ],
)
def test_a_cap_names_its_run_and_its_number(met: Met, code: ErrorCode, words: str):
    error = end_of(met, TIER)
    assert (error.code, error.status, error.reason, error.retryable) == (code, 429, met.cap, False)
    assert words in error.message


def test_a_job_that_waited_when_its_run_was_stopped_is_cancelled():
    error = end_of(Met("stopped", "r", "it burns", was_put_before=True), TIER)
    assert (error.code, error.message) == (
        ErrorCode.CANCELLED,
        "run 'r' was stopped (it burns) before the job ran",
    )

"""When an answer may be streamed, and how it is cut."""

from __future__ import annotations

import pytest

from producer_sdk.contract import (
    AttemptSummary,
    ErrorCode,
    GenerationParams,
    Job,
    JobError,
    JobResult,
    read_event,
    uuid7,
)
from tests.worker.job_runs import Rest, document, job_of, routing_of, run_of
from worker.outputs.step import StateForm
from worker.routing_file import TaskRule
from worker.streaming import rules

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
CITING = routing_of(tasks={"ask": TaskRule("ask", "small", requires_citations=True)})


@pytest.mark.parametrize(
    ("job", "routing", "when"),
    [
        (job_of(), routing_of(), "never"),
        (job_of(stream=True), routing_of(), "live"),
        (job_of(stream=True, documents=[document("A fact.")]), CITING, "after_check"),
        (job_of(stream=True, params=GenerationParams(response_schema=SCHEMA)), routing_of(), "after_check"),
        (job_of(documents=[document("A fact.")]), CITING, "never"),
    ],
)
async def test_what_is_checked_after_it_was_given_is_not_streamed_before(job: Job, routing, when: str):
    job_run = run_of(job, routing=routing)
    await StateForm().run(job_run, Rest())
    assert rules.when(job_run) == when


@pytest.mark.parametrize("length", [0, 1, 4_096, 4_097, 10_000])
def test_a_text_is_cut_into_few_events_that_say_where_they_begin(length: int):
    text = "".join(chr(0x4E00 + number % 100) for number in range(length))
    events = list(rules.texts([text[:7], text[7:]], attempt=2, at=5))
    assert "".join(event.text for event in events) == text
    assert len(events) == -(-length // 4_096)
    at = 5
    for event in events:
        assert (event.kind, event.attempt, event.at) == ("text", 2, at)
        at += len(event.text)


def attempt(number: int, status: str = "settled") -> AttemptSummary:
    return AttemptSummary(
        attempt_id=uuid7(), number=number, provider="p", deployment="p/m", model="m", status=status
    )


def result_of(text: str = "yes", **fields) -> JobResult:
    return JobResult(job_id=uuid7(), status="succeeded", text=text, **fields)


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({}, 0),
        ({"attempts": [attempt(1, "failed"), attempt(2)]}, 2),
        ({"attempts": [attempt(3, "uncertain")]}, 3),
        ({"attempts": [attempt(1, "failed")], "cache": "exact"}, 0),
    ],
)
def test_an_answer_is_told_under_the_number_of_the_attempt_that_gave_it(fields, number: int):
    assert rules.told_by(result_of(**fields)) == number


def test_the_end_says_how_the_job_ended_and_how_long_its_text_is():
    failed = JobResult.ended(uuid7(), JobError.of(ErrorCode.PROVIDER_UNAVAILABLE, "down"))
    ends = [read_event("1-9", rules.ending(result).written()) for result in (result_of("köche"), failed)]
    assert [(end.kind, end.status, end.length, end.id) for end in ends if end] == [
        ("end", "succeeded", 5, "1-9"),
        ("end", "failed", 0, "1-9"),
    ]

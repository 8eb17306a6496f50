"""What a delivery says of its answer: one answer stands at a time, in a bounded buffer, each append once."""

from __future__ import annotations

import pytest

from producer_sdk.contract import AttemptSummary, JobResult, StreamEvent, ToolCall, read_event, uuid7
from worker.streaming.rules import LONGEST_WHOLE_CHARACTERS
from worker.streaming.writer import StreamWriter


def writer_of(*, most_waiting: int = 1000) -> StreamWriter:
    return StreamWriter("tag", most_waiting=most_waiting, woken=lambda _writer: None)


def result_of(text: str, *, attempt: int = 1, **fields) -> JobResult:
    summary = AttemptSummary(
        attempt_id=uuid7(), number=attempt, provider="p", deployment="p/m", model="m", status="settled"
    )
    return JobResult(job_id=uuid7(), status="succeeded", text=text, attempts=[summary], **fields)


def appended(writer: StreamWriter) -> list[StreamEvent]:
    """What the next append holds; it is done."""
    item = writer.take()
    if item is None:
        return []
    writer.appended(is_live=True)
    events = [read_event("1-1", written) for written in item.events]
    return [event for event in events if event]


def told(events: list[StreamEvent]) -> list[tuple[str, int, str]]:
    return [(event.kind, event.attempt, event.text) for event in events]


def test_what_came_between_two_rounds_is_one_event():
    writer = writer_of()
    hear = writer.listen_to(uuid7(), 1)
    for word in ("Where ", "", "is ", "it?"):
        hear(word)
    assert told(appended(writer)) == [("begin", 1, ""), ("text", 1, "Where is it?")]
    hear(" There.")
    [event] = appended(writer)
    assert (event.text, event.at) == (" There.", 12)
    assert writer.take() is None
    assert writer.settled.is_set()


def test_an_answer_that_was_heard_whole_is_not_said_again():
    writer = writer_of()
    writer.listen_to(uuid7(), 1)("yes")
    writer.conclude(result_of("yes"))
    assert told(appended(writer)) == [("begin", 1, ""), ("text", 1, "yes")]


def test_an_answer_that_nobody_heard_is_said_as_a_whole():
    writer = writer_of()
    writer.conclude(result_of("yes", attempt=3))
    assert told(appended(writer)) == [("begin", 3, ""), ("text", 3, "yes")]


def test_an_answer_other_than_what_was_heard_takes_its_place():
    writer = writer_of()
    writer.listen_to(uuid7(), 1)("My number is 4711.")
    assert len(appended(writer)) == 2
    writer.conclude(result_of("My number is [hidden]."))
    assert told(appended(writer)) == [("begin", 1, ""), ("text", 1, "My number is [hidden].")]


def test_after_a_fallback_what_came_before_is_void_as_soon_as_the_next_call_begins():
    writer = writer_of()
    first, second = uuid7(), uuid7()
    hear = writer.listen_to(first, 1)
    hear("Half an ans")
    assert len(appended(writer)) == 2
    writer.leave(first)
    hear_second = writer.listen_to(second, 2)
    assert told(appended(writer)) == [("begin", 2, "")]
    hear_second("Whole.")
    [event] = appended(writer)
    assert (event.attempt, event.at, event.text) == (2, 0, "Whole.")


def test_a_call_that_failed_before_it_spoke_is_not_heard_of():
    writer = writer_of()
    first = uuid7()
    writer.listen_to(first, 1)
    writer.leave(first)
    writer.listen_to(uuid7(), 2)("yes")
    assert told(appended(writer)) == [("begin", 2, ""), ("text", 2, "yes")]


def test_what_is_void_before_it_was_appended_is_never_appended():
    writer = writer_of()
    first = uuid7()
    writer.listen_to(first, 1)("void")
    writer.leave(first)
    writer.listen_to(uuid7(), 2)("good")
    assert told(appended(writer)) == [("begin", 2, ""), ("text", 2, "good")]


def test_of_two_calls_side_by_side_the_first_to_speak_is_heard_and_the_answer_stands_in_the_end():
    writer = writer_of()
    first, second = writer.listen_to(uuid7(), 1), writer.listen_to(uuid7(), 2)
    second("B1")
    first("A1")
    second("B2")
    first("A2")
    assert told(appended(writer)) == [("begin", 2, ""), ("text", 2, "B1B2")]
    writer.conclude(result_of("A1A2"))
    assert told(appended(writer)) == [("begin", 1, ""), ("text", 1, "A1A2")]


def test_tool_calls_are_said_when_the_answer_is_known():
    writer = writer_of()
    call = ToolCall(id="1", name="look", arguments={"where": "here"})
    writer.listen_to(uuid7(), 1)("I look.")
    writer.conclude(result_of("I look.", tool_calls=[call]))
    events = appended(writer)
    assert [event.kind for event in events] == ["begin", "text", "tool_calls"]
    assert events[-1].tool_calls == [call]
    silent = writer_of()
    silent.conclude(result_of("", tool_calls=[call]))
    assert [event.kind for event in appended(silent)] == ["begin", "tool_calls"]


def test_tool_calls_longer_than_a_stream_holds_are_left_to_the_result():
    writer = writer_of()
    call = ToolCall(id="1", name="look", arguments={"where": "x" * LONGEST_WHOLE_CHARACTERS})
    writer.conclude(result_of("I look.", tool_calls=[call]))
    assert told(appended(writer)) == [("begin", 1, ""), ("text", 1, "I look.")]


def test_an_append_that_nobody_confirmed_is_the_same_again():
    writer = writer_of()
    hear = writer.listen_to(uuid7(), 1)
    hear("one")
    first = writer.take()
    hear(" two")
    assert writer.take() is first
    writer.appended(is_live=True)
    second = writer.take()
    assert first
    assert second
    assert (first.number, second.number) == (1, 2)
    assert read_event("", second.events[0]) == StreamEvent(kind="text", attempt=1, at=3, text=" two")


def test_more_than_the_buffer_holds_is_given_up_and_said_as_a_whole_in_the_end():
    writer = writer_of(most_waiting=10)
    hear = writer.listen_to(uuid7(), 1)
    hear("12345")
    assert len(appended(writer)) == 2
    for _ in range(5):
        hear("67890")
    assert writer.waiting <= 10
    assert appended(writer) == []
    writer.conclude(result_of("12345" + 5 * "67890"))
    assert told(appended(writer)) == [("begin", 1, ""), ("text", 1, "12345" + 5 * "67890")]


def test_a_delivery_that_was_lost_says_nothing_more():
    writer = writer_of()
    hear = writer.listen_to(uuid7(), 1)
    hear("one")
    assert writer.take()
    hear(" two")
    writer.appended(is_live=False)
    hear(" three")
    writer.conclude(result_of("another"))
    assert writer.take() is None
    assert writer.settled.is_set()


@pytest.mark.parametrize("heard", ["", "x"])
def test_an_answer_longer_than_a_stream_holds_is_left_to_the_result(heard: str):
    writer = writer_of()
    writer.listen_to(uuid7(), 1)(heard)
    writer.conclude(result_of("y" * (LONGEST_WHOLE_CHARACTERS + 1)))
    assert told(appended(writer)) == [("begin", 1, "")]


def test_an_answer_without_words_has_nothing_to_say():
    writer = writer_of()
    writer.conclude(result_of(""))
    assert writer.take() is None

"""A reader's place in a stream: what it is told, what it is not, and when the result has to mend it."""

from __future__ import annotations

import pytest

from producer_sdk.contract import ErrorCode, JobError, JobResult, StreamEvent, ToolCall, uuid7
from producer_sdk.stream_place import StreamPlace, entry_id

MADE = 1_800_000_000_000


def begin(attempt: int = 1) -> StreamEvent:
    return StreamEvent(kind="begin", attempt=attempt)


def text(words: str, at: int = 0, attempt: int = 1) -> StreamEvent:
    return StreamEvent(kind="text", attempt=attempt, at=at, text=words)


def end(length: int, status: str = "succeeded") -> StreamEvent:
    return StreamEvent(kind="end", status=status, length=length)


def told(place: StreamPlace, *events: StreamEvent | None, first: int = 1, made: int = MADE) -> list[str]:
    """What is told of these entries, as kinds and texts."""
    found = []
    for number, event in enumerate(events, first):
        stamped = event and event.model_copy(update={"id": f"{made}-{number}"})
        heard = place.take((made, number), stamped)
        if heard:
            found.append(heard.text or heard.kind)
    return found


def result_of(words: str, **fields) -> JobResult:
    return JobResult(job_id=uuid7(), status="succeeded", text=words, **fields)


def mended(place: StreamPlace, result: JobResult) -> list[str]:
    return [event.text or event.kind for event in place.mended(result)]


def test_a_whole_answer_is_told_to_its_end():
    place = StreamPlace()
    assert told(place, begin(), text("Hel"), text("lo", 3), end(5)) == ["begin", "Hel", "lo", "end"]
    assert place.is_told


def test_a_fallback_is_told_as_a_new_beginning():
    place = StreamPlace()
    heard = told(place, begin(), text("Ha"), begin(2), text("Whole", 0, 2), end(5))
    assert heard == ["begin", "Ha", "begin", "Whole", "end"]


def test_an_entry_is_told_once():
    place = StreamPlace()
    assert told(place, begin(), text("Hel")) == ["begin", "Hel"]
    assert told(place, begin(), text("Hel"), text("lo", 3)) == ["lo"]


def test_a_reader_that_comes_back_is_told_what_follows():
    place = StreamPlace(f"{MADE}-2")
    assert place.last == (MADE, 1)
    assert told(place, text("Hel"), text("lo", 3), end(5), first=2) == ["lo", "end"]


def test_a_reader_that_comes_back_after_the_last_word_is_told_the_end():
    assert told(StreamPlace(f"{MADE}-2"), text("Hello"), end(5), first=2) == ["end"]
    assert told(StreamPlace(f"{MADE}-3"), end(5), first=3) == ["end"]


@pytest.mark.parametrize("missing_from", [1, 2])
def test_after_a_missing_entry_nothing_is_told_until_the_answer_begins_anew(missing_from: int):
    place = StreamPlace()
    heard = told(place, begin(), text("Hel"))[:missing_from]
    assert told(place, text("!", 5), begin(2), text("Yes", 0, 2), end(3), first=4) == ["begin", "Yes", "end"]
    assert heard


def test_what_a_cap_has_taken_is_mended_by_the_result():
    place = StreamPlace()
    assert told(place, text("lo", 3), end(5), first=700) == []
    assert (place.is_over, place.is_told) == (True, False)
    assert mended(place, result_of("Hello")) == ["begin", "Hello", "end"]
    assert place.is_told


def test_a_reader_that_comes_back_too_late_is_told_the_whole_answer_at_the_end():
    place = StreamPlace(f"{MADE}-2")
    assert told(place, text("lo", 700), end(702), first=300) == []
    assert not place.is_told


def test_an_end_that_is_further_than_the_text_is_mended():
    place = StreamPlace()
    assert told(place, begin(), text("Hel"), end(5)) == ["begin", "Hel"]
    assert mended(place, result_of("Hello")) == ["begin", "Hello", "end"]


def test_whoever_stops_in_what_was_mended_is_told_it_again():
    place = StreamPlace()
    told(place, begin(), text("Hel"), end(5))
    first = next(place.mended(result_of("Hello")))
    again = StreamPlace(first.id)
    assert told(again, text("Hel"), end(5), first=2) == []
    assert mended(again, result_of("Hello")) == ["begin", "Hello", "end"]


def test_a_stream_made_anew_begins_with_the_first_entry_of_it():
    place = StreamPlace()
    told(place, begin(), text("Hel"))
    assert told(place, begin(2), text("Yes", 0, 2), end(3), made=MADE + 9) == ["begin", "Yes", "end"]
    late = StreamPlace(f"{MADE}-2")
    assert told(late, text("lo", 3), end(5), made=MADE + 9) == []


@pytest.mark.parametrize("status", ["failed", "rejected", "cancelled", "expired"])
def test_a_job_without_an_answer_just_ends(status: str):
    place = StreamPlace()
    assert told(place, begin(), text("Half"), end(0, status)) == ["begin", "Half", "end"]
    rejected = StreamPlace()
    assert told(rejected, end(0, status)) == ["end"]


def test_an_event_of_a_kind_that_is_not_known_is_passed_over():
    place = StreamPlace()
    assert told(place, begin(), None, text("Hello"), end(5)) == ["begin", "Hello", "end"]


def test_tool_calls_are_told_and_mended():
    call = ToolCall(id="1", name="look")
    calls = StreamEvent(kind="tool_calls", tool_calls=[call])
    assert told(StreamPlace(), begin(), calls, end(0)) == ["begin", "tool_calls", "end"]
    assert mended(StreamPlace(), result_of("", tool_calls=[call])) == ["begin", "tool_calls", "end"]


def test_a_job_that_failed_without_a_stream_is_told_by_its_end_alone():
    refused = JobResult.ended(uuid7(), JobError.of(ErrorCode.QUEUE_FULL, "full"))
    [only] = StreamPlace().mended(refused)
    assert (only.kind, only.status) == ("end", "rejected")


@pytest.mark.parametrize("wrong", ["x", "1", "1-", "-1", "1-2-3", "9" * 19 + "-1", "1800000000000-0"])
def test_a_place_that_is_no_events_id_says_what_it_must_be(wrong: str):
    with pytest.raises(ValueError, match="give the id of an event of this job's stream"):
        entry_id(wrong)

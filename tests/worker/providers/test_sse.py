"""The event stream parser, against the specification's cases and its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.providers.sse import Event, EventStream, StreamTooLarge


def events(*chunks: bytes) -> list[Event]:
    """Every event of these chunks."""
    stream = EventStream()
    return [event for chunk in chunks for event in stream.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [("", b"a")]),
        (b"data:a\n\n", [("", b"a")]),
        (b"data:  a\n\n", [("", b" a")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", b"a"), ("", b"b")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b": comment\nid: 7\nretry: 10\ndata: a\n\n", [("", b"a")]),
        (b"event: alone\n\ndata: a\n\n", [("", b"a")]),
        (b"data\n\n", [("", b"")]),
        (b"\n\n\n", []),
        (b"data: cut off", []),
        (b"data: cut off\n", []),
    ],
)
def test_events_are_read_as_the_specification_says(stream: bytes, expected: list[tuple[str, bytes]]):
    assert events(stream) == expected
    assert events(stream.replace(b"\n", b"\r\n")) == expected
    assert events(*(stream[at : at + 1] for at in range(len(stream)))) == expected


@given(st.binary(max_size=200), st.integers(1, 50))
def test_how_the_stream_is_cut_changes_nothing(stream: bytes, size: int):
    assert events(*(stream[at : at + size] for at in range(0, len(stream), size))) == events(stream)


@pytest.mark.parametrize("lines", [b"data: " + b"x" * 200, b"data: xxxxx\n" * 40])
def test_a_line_or_an_event_without_end_is_refused(lines: bytes):
    with pytest.raises(StreamTooLarge):
        list(EventStream(most_line=100).feed(lines))


def test_a_stream_without_end_is_refused():
    stream = EventStream(most_total=100)
    for _repeat in range(12):
        list(stream.feed(b": ping\n\n"))
    with pytest.raises(StreamTooLarge):
        list(stream.feed(b": ping\n\n"))


def test_lines_without_a_byte_of_data_are_counted_too():
    stream = EventStream(most_line=1_000)
    with pytest.raises(StreamTooLarge):
        list(stream.feed(b"data:\n" * 1_001))

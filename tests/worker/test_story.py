"""A story is bounded, goes on over deliveries, and says once what was only repeated."""

from __future__ import annotations

import json

from worker.story import MOST_BYTES, MOST_EVENTS, Story, StoryEvent, read


def parked(story: Story, number: int) -> Story:
    """A delivery that its budget sends back, and the story that the next one gets."""
    story.add(StoryEvent(1000 * number, "lane", "taken", {"delivery": 1, "put_ms": 1}))
    story.note("policy", "allowed", tier="free")
    story.note("budget", "refused", window="t:acme:d:2026-11-24")
    return read(story.written("lane", "handed_back", why="parked", delay_ms=300_000))


def test_what_was_noted_is_read_again():
    story = Story()
    story.note("plan", "made", calls=[{"deployment": "local/s", "alias": "small"}], left_out=None)
    again = read(story.written("result", "succeeded", cost_usd="0.1"))
    assert [(event.kind, dict(event.facts)) for event in again.told] == [
        (("plan", "made"), {"calls": [{"deployment": "local/s", "alias": "small"}]}),
        (("result", "succeeded"), {"cost_usd": "0.1"}),
    ]
    assert again.noted == 2


def test_a_job_that_is_parked_for_a_day_has_a_short_story():
    story = Story()
    for number in range(300):
        story = parked(story, number)
    story.note("attempt", "settled")
    assert [event.what for event in story.told] == ["taken", "allowed", "refused", "handed_back", "settled"]
    taken = story.told[0]
    assert (taken.at_ms, taken.facts["times"], taken.facts["first_ms"]) == (299_000, 300, 0)
    assert story.noted == 1200


def test_deliveries_that_went_otherwise_are_all_told():
    story = parked(Story(), 1)
    story.add(StoryEvent(2000, "lane", "taken", {"delivery": 1}))
    story.note("policy", "refused")
    story = parked(read(story.written("lane", "handed_back")), 3)
    assert [event.what for event in story.told].count("taken") == 3


def test_of_two_accounts_the_longer_one_goes_on():
    journalled = parked(Story(), 1)
    redis = Story()
    redis.add(StoryEvent(5000, "lane", "taken", {"delivery": 2}))
    redis.follow(journalled)
    assert [event.what for event in redis.told] == ["taken", "allowed", "refused", "handed_back", "taken"]
    redis.follow(Story())
    assert len(redis.told) == 5


def test_a_story_is_bounded_in_events_bytes_and_facts():
    story = Story()
    for number in range(500):
        story.note("fallback", "next", why="x" * 1000, names=[f"n{n}" for n in range(50)], number=number)
    kept = read(story.written()).told
    assert len(story.written()) <= MOST_BYTES + 100
    assert 10 < len(kept) <= MOST_EVENTS
    assert kept[0].facts["number"] == 0
    assert kept[-1].facts["number"] == 499
    assert kept[0].facts["names"][-1] == {"more": 38}
    assert len(str(kept[0].facts["why"])) == 160


def test_an_event_with_too_many_facts_keeps_the_short_ones():
    story = Story()
    rows = [{"deployment": "d" * 150, "why": "w" * 150, "alias": "a" * 150} for _ in range(12)]
    story.note("plan", "made", calls=rows, left_out=rows, max_output_tokens=64)
    [event] = read(story.written()).told
    assert dict(event.facts) == {"max_output_tokens": 64, "facts_left_out": True}


def test_names_from_outside_can_hold_nothing_that_a_terminal_or_a_database_minds():
    story = Story()
    story.note("run", "counted", runs=["\x1b[31mred\x00\n", "\ud800"])
    assert json.loads(story.written())["events"][0][3] == {"runs": ["\ufffd[31mred\ufffd\ufffd", "\ufffd"]}


FACTLESS = '{"noted": 1, "events": [[1, "lane", "taken", 7]]}'


def test_what_cannot_be_read_is_an_empty_story():
    for damaged in (None, "", b"{", "[]", '{"noted": 1}', '{"noted": 1, "events": [[1]]}', b"\xff", FACTLESS):
        assert read(damaged).told == []

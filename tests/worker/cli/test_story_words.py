"""The words of `fairlane explain`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from producer_sdk.contract import ErrorCode, JobError, JobResult, uuid7
from producer_sdk.lanes import JobLook, LostDelivery, Past
from worker.cli.job_story import told
from worker.cli.story_words import lines, said
from worker.ledger.ledger import AttemptAccount, JobAccount
from worker.story import Story, StoryEvent

NOW = 1_800_000_000_000
WEEK = timedelta(days=7)
LOOK = JobLook(
    state="pending",
    tenant="acme",
    lane="interactive",
    task="ask",
    now_ms=NOW + 5_000,
    put_ms=NOW,
    deadline_ms=0,
    worker="",
    taken_ms=0,
    stop="",
    due_ms=0,
    position=2,
    queue=7,
    running=4,
    slots=4,
    held_up="concurrency",
    held_up_ms=None,
    tenants_before=None,
    past=Past(ahead=2, since_ms=NOW),
)


LOST = ("lane", "lost", {"delivery": 1, "worker": "w"})
TAKEN = ("lane", "taken", {"delivery": 1, "waited_ms": 900, "ahead": 1, "other_tenants": 2})
CALL = {"deployment": "d", "alias": "a", "highest_usd": "1", "predicted_ms": 1500}
LEFT_OUT = [{"deployment": "e", "why": "no price"}]
VOID = ("attempt", "void", {"attempt": 1, "deployment": "d", "error": "cancelled"})


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (LOST, ["delivery 1 was lost with its worker w, and came back to its lane"]),
        (("cache", "hit", {"saved_usd": "0.000120"}), ["answered from the tenant's cache, $0.00012 saved"]),
        (("cache", "not_asked", {"why": "no"}), ["not asked: no"]),
        (
            ("budget", "held", {"attempt": 1, "worst_usd": "0.2", "windows": ["t:a:d:1"], "batch": "7"}),
            ["attempt 1 holds $0.2, a share of what its batch holds", "in t:a:d:1"],
        ),
        (
            ("attempt", "settled", {"attempt": 1, "deployment": "d", "cost_usd": "0", "list_usd": "0.20"}),
            ["attempt 1 of d answered, $0 ($0.2 at list, by the tenant's own key)"],
        ),
        (("policy", "allowed", {"tier": "pro", "aliases": ["vectors"]}), ["tier pro: vectors"]),
        (
            ("retries", "refused", {"why": "resubmitted"}),
            ["resubmitted: refused by the tenant's retry budget"],
        ),
        (("run", "refused", {"code": "run_cap", "reason": "calls"}), ["refused: run_cap, calls"]),
        (("control", "asked", {"task": "fleet.usage"}), ["answered by the fleet itself: fleet.usage"]),
        (VOID, ["attempt 1 of d was never sent (cancelled)"]),
        (
            ("attempt", "uncertain", {"attempt": 1, "deployment": "d", "cost_usd": "1", "silent_ms": 900}),
            ["attempt 1 of d is uncertain, $1", "closed after 900 ms of silence: another spoke first"],
        ),
        (("fallback", "stop", {"why": "none is left"}), ["no other attempt: none is left"]),
        (
            ("plan", "made", {"calls": [CALL], "left_out": LEFT_OUT}),
            [
                "1 deployment to try in order",
                "1. d (a), $1 at most, 1.5 s predicted",
                "left out: e: no price",
            ],
        ),
        (
            ("health", "left_out", {"left_out": LEFT_OUT, "despite": ["d"]}),
            [
                "deployments that take no call now",
                "left out: e: no price",
                "tried all the same, as the last one: d",
            ],
        ),
        (
            TAKEN,
            [
                "taken, delivery 1, after a wait of 900 ms",
                "for its turn and a worker's free slot: 1 job of its tenant before it, 2 other tenants in turn",
            ],
        ),
        (("hedge", "begun", {"after_ms": 3}), ["begun", "after_ms: 3"]),
    ],
)
def test_an_event_in_words(event, words):
    assert said(StoryEvent(0, *event)) == words


def test_no_name_reaches_the_terminal_with_its_escapes():
    [first, second] = lines([StoryEvent(0, "hedge", "\x1b[2J", {"\x1b]0;x\x07": "[red]\u202e"})])
    assert "\x1b" not in first + second
    assert "\u202e" not in second
    assert "[red]" in second


def test_a_pending_job_is_told_what_it_waits_for_now():
    put, now = told(None, LOOK, None, retention=WEEK)
    assert said(put) == ["put into interactive by acme, task ask, 2 other jobs of its tenant waited"]
    assert said(now) == [
        "pending for 5 s",
        "2 of the 7 jobs in its queue are before it",
        "acme is held up by concurrency",
        "4 of 4 jobs of acme run",
    ]


def test_what_sql_knows_of_attempts_that_nobody_lived_to_note_is_told():
    attempt = AttemptAccount(
        id=uuid7(),
        state="uncertain",
        number=1,
        deployment="local/s",
        worst_pico=10**9,
        cost_pico=10**9,
        windows=(),
        created_at=datetime.fromtimestamp(NOW / 1000 + 1, UTC),
        settled_at=datetime.fromtimestamp(NOW / 1000 + 4, UTC),
    )
    account = JobAccount(uuid7(), "acme", "ask", None, _at(0), None, None, None, None, None, None, (attempt,))
    past = Past(since_ms=NOW, lost=(LostDelivery("w", NOW + 1, NOW + 3_000),))
    look = JobLook(**{**vars(LOOK), "past": past, "deliveries_lost": 1})
    story = told(account, look, None, retention=WEEK)
    assert [event.what for event in story] == ["put", "journalled", "lost", "uncertain", "pending"]
    assert said(story[3]) == ["attempt 1 of local/s is uncertain: its worker was lost, $0.001"]


def test_a_job_that_ended_long_ago_is_told_from_sql_with_what_is_forgotten():
    noted = Story(began_ms=NOW)
    noted.add(StoryEvent(NOW, "lane", "taken", {"delivery": 1, "put_ms": NOW - 50}))
    error = JobError.of(ErrorCode.POLICY_DENIED, "no model is left: allow one")
    text = noted.written("result", "rejected", code="policy_denied", cost_usd="0")
    account = JobAccount(
        uuid7(), "acme", "ask", "rejected", _at(0), _at(1), _at(700_000), None, "run-1", error, text, ()
    )
    put, _taken, end = told(account, None, None, retention=WEEK)
    assert said(put) == ["put into its lane by acme, task ask, run run-1"]
    assert said(end)[0].startswith("rejected (policy_denied), $0")
    assert said(end)[1] == "no model is left: allow one"
    assert said(end)[2].startswith("its content was forgotten at 2027-01-")


def test_a_job_that_ends_while_it_is_looked_at_has_ended():
    account = JobAccount(
        uuid7(), "acme", "ask", "succeeded", _at(0), _at(9), None, None, None, None, None, ()
    )
    assert [event.step for event in told(account, LOOK, None, retention=WEEK)] == ["lane", "result"]


def test_a_job_that_no_step_has_seen_is_told_by_its_result():
    look = JobLook(**{**vars(LOOK), "state": "finished", "put_ms": 0})
    refused = JobResult.ended(uuid7(), JobError.of(ErrorCode.UNSIGNED, "sign it"))
    [end] = told(None, look, refused, retention=WEEK)
    assert said(end) == ["rejected (unsigned)", "sign it"]


def test_a_job_that_began_and_whose_message_cannot_be_run_any_more_is_told_to_its_end():
    look = JobLook(**{**vars(LOOK), "state": "finished"})
    begun = JobAccount(uuid7(), "acme", "ask", None, _at(0), None, None, None, None, None, None, ())
    refused = JobResult.ended(begun.job_id, JobError.of(ErrorCode.UNSIGNED, "sign it"))
    assert [event.what for event in told(begun, look, refused, retention=WEEK)] == ["put", "rejected"]
    running = JobLook(**{**vars(LOOK), "state": "running"})
    assert [event.step for event in told(begun, running, refused, retention=WEEK)][-1] == "now"


def test_a_job_that_nobody_knows_has_no_story():
    assert told(None, None, None, retention=WEEK) == []


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW / 1000 + seconds, UTC)

"""One job's story put together: what its steps have noted, what SQL and its lane know now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue

from producer_sdk.contract import JobResult, to_usd
from producer_sdk.lanes import JobLook
from worker.lane_story import held_up, losses
from worker.ledger.ledger import AttemptAccount, JobAccount
from worker.story import TAKEN, Story, StoryEvent, clean, read

ENDED = frozenset({"settled", "failed", "uncertain", "void"})
HAS_ENDED = frozenset({"finished", "dead"})


def told(
    account: JobAccount | None, look: JobLook | None, result: JobResult | None, *, retention: timedelta
) -> list[StoryEvent]:
    """Every event, in order of time. `result`: of a job that no step has ended; None where it is not kept."""
    story = _longest(account, look)
    events = [*story.told]
    events += [*_put(events, account, look)]
    if look is not None:
        events += [
            event for event in losses(look.past, deliveries=look.deliveries_lost) if event not in events
        ]
    if account is not None:
        events += [event for attempt in account.attempts for event in _since(attempt, events)]
    if look is not None and look.state not in HAS_ENDED and not (account and account.status):
        events += [*_now(look, story)]
    events = sorted(events, key=lambda event: event.at_ms)
    if account is not None and account.status:
        return _with_end(events, account, retention=retention)
    if result is not None and (look is None or look.state in HAS_ENDED):
        at_ms = max([event.at_ms for event in events], default=0)
        events.append(StoryEvent(at_ms, "result", result.status, _error(result)))
    return events


def without_lane(events: Sequence[StoryEvent]) -> list[StoryEvent]:
    """The story of a job that has not ended, while its lane cannot be asked."""
    at_ms = max([event.at_ms for event in events], default=0)
    return [*events, StoryEvent(at_ms, "now", "not_known", {"why": "the broker does not answer"})]


def _longest(account: JobAccount | None, look: JobLook | None) -> Story:
    kept = [read(account.story if account else None), read(look.past.story if look else None)]
    return max(kept, key=lambda story: story.noted)


def _put(
    events: Sequence[StoryEvent], account: JobAccount | None, look: JobLook | None
) -> Iterator[StoryEvent]:
    """How it came: its first delivery tells of it, or its lane."""
    taken = next((event.facts for event in events if event.kind == TAKEN), None)
    put = taken.get("put_ms") if taken else None
    put_ms = put if isinstance(put, int) and put else look.put_ms if look else 0
    if not put_ms:
        return
    facts: dict[str, JsonValue] = {
        "tenant": account.tenant if account else look.tenant if look else None,
        "task": account.task if account else look.task if look else None,
        "lane": taken.get("lane") if taken else look.lane if look else None,
        "priority": taken.get("priority") if taken else None,
        "ahead": taken.get("ahead") if taken else look.past.ahead if look else None,
        "run": account.run_id if account else None,
        "batch": str(account.batch_id) if account and account.batch_id else None,
    }
    yield StoryEvent(put_ms, "lane", "put", {name: clean(fact) for name, fact in facts.items() if fact})


def _since(attempt: AttemptAccount, events: Sequence[StoryEvent]) -> Iterator[StoryEvent]:
    """What SQL knows of an attempt that the story does not: nobody lived to note it, or it was settled later."""
    own = [event for event in events if event.facts.get("id") == str(attempt.id)]
    facts: dict[str, JsonValue] = {
        "attempt": attempt.number,
        "id": str(attempt.id),
        "deployment": clean(attempt.deployment),
    }
    if not own:
        worst = f"{to_usd(attempt.worst_pico):f}"
        yield StoryEvent(_ms(attempt.created_at), "attempt", "journalled", facts | {"worst_usd": worst})
    noted = next((event for event in reversed(own) if event.what in ENDED), None)
    cost = f"{to_usd(attempt.cost_pico):f}"
    if attempt.settled_at is None or (noted and noted.what == attempt.state):
        return
    by = {"since": "noted"} if noted else {"since": "lost"}
    yield StoryEvent(_ms(attempt.settled_at), "attempt", attempt.state, facts | {"cost_usd": cost} | by)


def _now(look: JobLook, story: Story) -> Iterator[StoryEvent]:
    """Where a job is that has not ended."""
    last = max((event.at_ms for event in story.told if event.kind == TAKEN), default=0)
    if look.state == "running":
        if look.taken_ms > last:
            waited: JsonValue = look.taken_ms - look.past.since_ms
            facts = {"delivery": look.deliveries_lost + 1, "waited_ms": waited}
            yield StoryEvent(look.taken_ms, *TAKEN, facts)
        yield StoryEvent(look.now_ms, "now", "running", {"worker": clean(look.worker)})
        return
    facts = {
        "tenant": clean(look.tenant),
        "lane": look.lane,
        "stop": look.stop or None,
        "due_in_ms": max(0, look.due_ms - look.now_ms) if look.due_ms else None,
        "before_it": look.position,
        "queue": look.queue if look.position is not None else None,
        "running": look.running,
        "slots": look.slots,
        "held_up_by": clean(look.held_up) or None,
        "held_up_ms": look.held_up_ms if look.held_up else None,
        "tenants_before": look.tenants_before,
        "held_up": held_up(
            look.past.held_up, task=look.task, since_ms=look.past.since_ms, until_ms=look.now_ms
        )
        or None,
        "waited_ms": look.now_ms - look.past.since_ms,
    }
    yield StoryEvent(
        look.now_ms, "now", look.state, {name: fact for name, fact in facts.items() if fact is not None}
    )


def _with_end(events: list[StoryEvent], account: JobAccount, *, retention: timedelta) -> list[StoryEvent]:
    """The result last, with the error's sentence and for how long its content is kept."""
    ended_ms = _ms(account.finished_at) if account.finished_at else max([e.at_ms for e in events], default=0)
    result = next((event for event in events if event.step == "result"), None)
    facts = dict(result.facts) if result else {}
    if account.error is not None:
        facts |= {"code": str(account.error.code), "message": account.error.message}
    if account.purged_at is not None:
        facts["content_forgotten"] = account.purged_at.isoformat()
    elif account.finished_at is not None:
        facts["content_kept_until"] = (account.finished_at + retention).isoformat()
    late = [event for event in events if event is not result]
    end = StoryEvent(result.at_ms if result else ended_ms, "result", account.status or "", facts)
    return sorted([*late, end], key=lambda event: event.at_ms)


def _error(result: JobResult) -> dict[str, JsonValue]:
    error = result.error
    return {"code": str(error.code), "reason": error.reason, "message": error.message} if error else {}


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)

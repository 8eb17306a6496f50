"""What a delivery tells of a job's wait: where its story begins, or goes on."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from producer_sdk.contract import Job
from producer_sdk.lanes import Delivery, HeldUp, Past
from worker.story import HANDED_BACK, TAKEN, Story, StoryEvent, clean, read


def begun(delivery: Delivery, job: Job, *, retries: int, stop: str | None, began: float) -> Story:
    """The story of a job whose delivery came at `began`, on the monotonic clock."""
    past = delivery.past
    story = read(past.story)
    story.began_ms, story.began = delivery.taken_ms, began
    taken = _taken(delivery, job, story.earlier, retries=retries, stop=stop)
    lost = losses(past, deliveries=delivery.deliveries - 1)
    for event in (*lost, StoryEvent(delivery.taken_ms, *TAKEN, taken)):
        if event not in story.earlier:
            story.add(event)
    return story


def losses(past: Past, *, deliveries: int) -> Sequence[StoryEvent]:
    """The deliveries that were lost with their workers, the oldest first; `deliveries`: how many there were."""
    return [
        StoryEvent(
            lost.lost_ms,
            "lane",
            "lost",
            {"delivery": deliveries - at, "worker": clean(lost.worker), "taken_ms": lost.taken_ms},
        )
        for at, lost in reversed([*enumerate(past.lost)])
    ]


def _taken(
    delivery: Delivery, job: Job, earlier: Sequence[StoryEvent], *, retries: int, stop: str | None
) -> dict[str, JsonValue]:
    past = delivery.past
    since_ms = past.since_ms or delivery.put_ms
    is_first = since_ms == delivery.put_ms and not earlier
    facts: dict[str, JsonValue] = {
        "delivery": delivery.deliveries,
        "lane": delivery.lane,
        "priority": job.priority,
        "put_ms": delivery.put_ms,
        "waited_ms": max(0, delivery.taken_ms - since_ms),
        "delayed_ms": delayed_ms(job, earlier, since_ms=since_ms, until_ms=delivery.taken_ms) or None,
        "held_up": held_up(past.held_up, task=job.task, since_ms=since_ms, until_ms=delivery.taken_ms)
        or None,
        "ahead": past.ahead if is_first else None,
        "other_tenants": past.others,
        "retries": retries or None,
        "stop": stop,
    }
    return {name: clean(fact) for name, fact in facts.items() if fact is not None}


def delayed_ms(job: Job, earlier: Sequence[StoryEvent], *, since_ms: int, until_ms: int) -> int:
    """For how long of its wait it was not due: by its own not_before, or as it was handed back."""
    delay: JsonValue = 0
    if earlier:
        delay = earlier[-1].facts.get("delay_ms", 0) if earlier[-1].kind == HANDED_BACK else 0
    elif job.not_before is not None:
        delay = int(job.not_before.timestamp() * 1000) - since_ms
    return max(0, min(delay if isinstance(delay, int) else 0, until_ms - since_ms))


def held_up(spans: Sequence[HeldUp], *, task: str, since_ms: int, until_ms: int) -> list[JsonValue]:
    """What held up this task's jobs of the tenant within this time, each with for how long of it."""
    total: dict[str, int] = {}
    for span in spans:
        of_task = span.by.partition(" of ")[2] if not span.by.startswith("paused") else ""
        within = min(span.until_ms or until_ms, until_ms) - max(span.from_ms, since_ms)
        if within > 0 and of_task in ("", task):
            total[span.by] = total.get(span.by, 0) + within
    return [{"by": by, "ms": ms} for by, ms in total.items()]

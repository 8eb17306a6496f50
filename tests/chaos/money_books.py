"""Judges what a chaos run has left of the money: limits, holds, uncertain calls, and what the doctor says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from producer_sdk.contract import to_pico
from tests.chaos import books
from tests.chaos.redis_books import Held, RedisBooks
from worker.routing_file import Budget, RoutingFile, Tier

MOST_REST_S = 90.0
FULL = 0.8  # of its limit: such a window has begun to refuse
KINDS = ("runs", "features' days", "tenants' days", "tenants' months", "providers' days", "fleet's days")


@dataclass(frozen=True)
class Doctor:
    """What `fairlane doctor books` has answered."""

    exit_code: int
    states: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """Redis beside SQL while the fleet is at rest; `rest_s` after the last strike."""

    rest_s: float
    redis: RedisBooks
    in_flight: Mapping[str, Held]  # SQL's
    settled: Mapping[str, int]  # SQL's, uncertain calls at worst
    limits: Mapping[str, int | None]
    doctor: Doctor


@dataclass(frozen=True)
class Flush:
    """What stood where when Redis was flushed."""

    in_hand: frozenset[str]  # the jobs that workers held
    finished: frozenset[str]  # the jobs that had ended
    called: frozenset[str]  # their attempts
    gone: frozenset[str]  # the jobs that only waited
    known: frozenset[str]  # those of them that the lanes still knew
    repeated: int  # jobs that their producers have submitted again


@dataclass(frozen=True)
class MoneyEvidence:
    """All that is left, beside what the books of jobs and calls say."""

    books: books.Evidence
    audits: tuple[Audit, ...]
    overspent: tuple[str, ...]  # what the samples have found while the run went on
    samples: int
    least_room_pico: int  # in any window, in any sample
    full: frozenset[str]  # the kinds of windows that a sample has found spent
    over_reserved: int
    uncertain: Mapping[str, str]  # attempt: job
    in_flight_at_kills: frozenset[str]
    cancelled_mid_call: frozenset[str]  # jobs
    attempts: Mapping[str, str]  # attempt: job
    flushes: tuple[Flush, ...]


def limit_pico(window: str, routing: RoutingFile, top_ups: Mapping[str, int]) -> int | None:
    """What routing.yaml and operators let this window spend; None: nothing limits it."""
    match window.split(":"):
        case ["fleet", span, _date]:
            usd = _of(routing.fleet, span)
        case ["p", provider, span, _date]:
            usd = _of(routing.providers[provider].budget, span)
        case ["t", name, span, _date]:
            tier = _tier(routing, name)
            usd = _of(Budget(tier.daily_budget_usd, tier.monthly_budget_usd), span)
        case ["f", name, feature, span, _date]:
            usd = _of(_tier(routing, name).features[feature], span)
        case ["r", name, _run]:
            usd = _tier(routing, name).run_budget_usd
        case _:
            usd = None
    return None if usd is None else to_pico(usd) + top_ups.get(window, 0)


def _tier(routing: RoutingFile, name: str) -> Tier:
    tenant = routing.tenant(name)
    assert tenant, name
    return tenant.tier


def _of(budget: Budget, span: str) -> Decimal | None:
    return budget.daily_usd if span == "d" else budget.monthly_usd


def kind(window: str) -> str:
    """In words."""
    names = {"r": "runs", "f": "features'", "t": "tenants'", "p": "providers'", "fleet": "fleet's"}
    parts = window.split(":")
    span = {"d": " days", "m": " months"}.get(parts[-2], "") if parts[0] != "r" else ""
    return names[parts[0]] + span


def overspent(sums: Mapping[str, int], limits: Mapping[str, int | None]) -> Iterator[str]:
    """Each window whose sum has passed its limit, or which has none."""
    for window, amount in sums.items():
        limit = limits.get(window)
        if limit is None or amount > limit:
            yield f"window {window} has {amount} settled, uncertain and in flight, and a limit of {limit}"


def violations(evidence: MoneyEvidence) -> list[str]:
    """One sentence for each broken promise; none when all is well."""
    return [
        *books.violations(evidence.books),
        *evidence.overspent,
        *(sentence for audit in evidence.audits for sentence in of_audit(audit)),
        *_of_uncertain(evidence),
        *(sentence for flush in evidence.flushes for sentence in _of_flush(flush, evidence.attempts)),
        *_of_strength(evidence),
    ]


def of_audit(audit: Audit) -> Iterator[str]:
    """What is wrong with the books while the fleet rests."""
    yield from overspent(audit.settled, audit.limits)
    if audit.rest_s > MOST_REST_S:
        yield f"the fleet came to rest only after {audit.rest_s:.0f} s"
    if audit.redis.epoch is None:
        yield "Redis has no books"
    yield from _of_holds(audit)
    for window in sorted(set(audit.settled) | set(audit.redis.windows)):
        settled, _held = audit.redis.windows.get(window, (0, 0))
        if settled != audit.settled.get(window, 0):
            yield f"window {window} has {settled} settled in Redis, {audit.settled.get(window, 0)} in SQL"
    if audit.doctor.exit_code or set(audit.doctor.states) != {"ok"}:
        yield f"the doctor has ended with {audit.doctor.exit_code}: {', '.join(audit.doctor.states)}"


def _of_holds(audit: Audit) -> Iterator[str]:
    redis, sql = audit.redis, audit.in_flight
    for attempt in sorted(set(redis.held) | set(sql)):
        if redis.held.get(attempt) != sql.get(attempt):
            yield f"attempt {attempt} holds {redis.held.get(attempt)} in Redis, {sql.get(attempt)} in SQL"
        else:
            yield f"attempt {attempt} is still held, and in flight"
    if redis.listed != set(redis.held):
        yield f"{len(redis.listed)} holds are listed, and {len(redis.held)} are there"
    added = Counter[str]()
    for hold in redis.held.values():
        added.update(dict.fromkeys(hold.windows, hold.amount_pico))
    for window, (_settled, held) in redis.windows.items():
        if held != added[window]:
            yield f"window {window} says that {held} is held, its attempts hold {added[window]}"


def _of_uncertain(evidence: MoneyEvidence) -> Iterator[str]:
    """A call is uncertain because its worker was killed, its delivery was lost in the flush, or its job cancelled."""
    cut = {job for flush in evidence.flushes for job in flush.in_hand} | evidence.cancelled_mid_call
    for attempt, job in evidence.uncertain.items():
        if attempt not in evidence.in_flight_at_kills and job not in cut:
            yield f"attempt {attempt} is uncertain, though nothing has cut it"
    if evidence.over_reserved:
        yield f"{evidence.over_reserved} attempts cost more than they had reserved"


def called_again(flush: Flush, attempts: Mapping[str, str]) -> dict[str, str]:
    """The attempts, with their jobs, that were made after the flush for jobs that had ended before it."""
    return {a: job for a, job in attempts.items() if job in flush.finished and a not in flush.called}


def _of_flush(flush: Flush, attempts: Mapping[str, str]) -> Iterator[str]:
    for attempt, job in called_again(flush, attempts).items():
        yield f"job {job} had ended before the flush, and was called again: attempt {attempt}"
    if not flush.gone or not flush.in_hand:
        yield f"the flush met {len(flush.gone)} jobs that only waited, and {len(flush.in_hand)} in workers' hands"
    for job in sorted(flush.known):
        yield f"job {job} only waited, and is not unknown after the flush"


def full_windows(settled: Mapping[str, int], limits: Mapping[str, int | None]) -> Counter[str]:
    """How many windows of each kind are spent so far that they refuse most."""
    found = Counter[str]()
    for window, amount in settled.items():
        limit = limits.get(window)
        found[kind(window)] += limit is not None and amount >= FULL * limit
    return +found


def _of_strength(evidence: MoneyEvidence) -> Iterator[str]:
    """Limits that were never met have shown nothing."""
    for each in KINDS:
        if each not in evidence.full:
            yield f"of the {each} none was ever spent to {FULL:.0%}: their limits have shown nothing"

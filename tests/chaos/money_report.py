"""What a chaos run of money is asked to do, and what it came to: a table, and the promises that were broken."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from producer_sdk.contract import usd_text
from tests.chaos.money_books import MoneyEvidence, called_again, full_windows, of_audit, violations

WORKER, BROKER, BOTH, FLUSHED = "worker killed", "broker killed", "both killed at once", "broker flushed"


@dataclass(frozen=True)
class Plan:
    """What to do; the seed decides every job, and the order of the strikes. Every second broker kill takes a worker."""

    seed: int
    worker_kills: int = 300  # in the middle of a call, those with the broker and at the flush among them
    broker_kills: int = 10
    audits: int = 12
    jobs_a_strike: int = 20
    workers: int = 3

    def strikes(self, dice: random.Random) -> list[str]:
        """In random order, the flush in the middle."""
        both = (self.broker_kills + 1) // 2
        strikes = [WORKER] * (self.worker_kills - both - 1) + [BOTH] * both
        strikes += [BROKER] * (self.broker_kills - both)
        dice.shuffle(strikes)
        strikes.insert(len(strikes) // 2, FLUSHED)
        return strikes


@dataclass(frozen=True)
class Report:
    """What a run came to."""

    plan: Plan
    evidence: MoneyEvidence
    struck: Counter[str]
    killed_mid_call: int
    killed: int
    generations: int
    duration_s: float
    exit_codes: tuple[int | None, ...]

    @property
    def refusals(self) -> Counter[str]:
        """Jobs that a budget has refused, by the reason."""
        errors = [final.get("error") or {} for final in self.evidence.books.finals.values()]
        return Counter(error["reason"] for error in errors if error.get("code") == "budget_exceeded")

    @property
    def violations(self) -> list[str]:
        found = violations(self.evidence)
        if self.killed_mid_call < self.plan.worker_kills:
            found.append(f"only {self.killed_mid_call} workers were killed in the middle of a call")
        brokers = self.struck[BROKER] + self.struck[BOTH]
        if brokers != self.plan.broker_kills or self.struck[FLUSHED] != 1:
            found.append(f"{brokers} brokers were killed, {self.struck[FLUSHED]} brokers were flushed")
        if not self.evidence.books.succeeded or not self.refusals:
            found.append("all jobs were refused, or none: the limits have shown nothing")
        if self.evidence.samples < self.duration_s / 10:
            found.append(f"SQL's sums were looked at only {self.evidence.samples} times")
        if any(self.exit_codes):
            found.append(f"asked to end, the workers ended with {self.exit_codes}")
        return found

    def rows(self) -> list[tuple[str, str]]:
        """The table."""
        return [
            ("seed", str(self.plan.seed)),
            *self._strikes(),
            *self._jobs(),
            *self._money(),
            ("duration", f"{self.duration_s:.0f} s"),
        ]

    def _strikes(self) -> list[tuple[str, str]]:
        struck, missed = self.struck, self.killed - self.killed_mid_call
        return [
            ("workers killed (SIGKILL) with a call in flight", str(self.killed_mid_call)),
            ("workers killed just after their calls had ended, beside", str(missed)),
            ("broker killed (SIGKILL) and restarted", str(struck[BROKER] + struck[BOTH])),
            ("of these, at once with a worker", str(struck[BOTH])),
            ("FLUSHALL, at once with a worker's kill", str(struck[FLUSHED])),
        ]

    def _jobs(self) -> list[tuple[str, str]]:
        books, flush = self.evidence.books, self.evidence.flushes[0]
        ends = Counter(final["status"] for final in books.finals.values())
        again = called_again(flush, self.evidence.attempts)
        return [
            ("tenants, three a generation", str(3 * self.generations)),
            ("jobs accepted", f"{len(books.accepted):,}"),
            ("lost", str(len(books.lost))),
            ("how they ended", _listed(ends)),
            ("refused by a budget", _listed(self.refusals)),
            ("had only waited at FLUSHALL: `unknown`", str(len(flush.gone))),
            ("submitted again after it", f"{flush.repeated:,}"),
            ("of these, had ended before it", f"{len(flush.finished):,}"),
            ("of these, called again (0)", str(len(again))),
        ]

    def _money(self) -> list[tuple[str, str]]:
        evidence, books, last = self.evidence, self.evidence.books, self.evidence.audits[-1]
        clean = sum(not list(of_audit(audit)) for audit in evidence.audits)
        rest_s = max(audit.rest_s for audit in evidence.audits)
        cut = [
            job for attempt, job in evidence.uncertain.items() if attempt not in evidence.in_flight_at_kills
        ]
        cancelled = len(evidence.cancelled_mid_call.intersection(cut))
        ledger_pico, twin_pico = books.certain_cost_pico()
        return [
            ("windows limited", f"{len(last.limits):,}"),
            ("of these, spent to 80 % and more", _listed(full_windows(last.settled, last.limits))),
            ("looks at SQL's sums while it ran", str(evidence.samples)),
            ("past a limit at any look (0)", str(len(evidence.overspent))),
            ("least room in any window at any look", f"{usd_text(evidence.least_room_pico)} USD"),
            (
                "rests with Redis by SCAN = SQL, and `doctor books` clean",
                f"{clean} of {len(evidence.audits)}",
            ),
            ("longest from the last strike until all agreed", f"{rest_s:.0f} s"),
            ("attempts that the provider billed", f"{len(books.billed):,}"),
            ("ledger rows", f"{len(books.events):,}"),
            ("uncertain", f"{len(books.uncertain):,}"),
            ("in flight in SQL when workers were killed", f"{books.in_flight_at_kills:,}"),
            ("uncertain beside: cut by FLUSHALL", f"{len(cut) - cancelled} of {books.in_flight_at_pauses}"),
            ("uncertain beside: cancelled by us at a rest", f"{cancelled} of {books.broken_by_tests}"),
            ("cost, ledger (uncertain apart)", f"{usd_text(ledger_pico)} USD"),
            ("cost, provider's books (the same attempts)", f"{usd_text(twin_pico)} USD"),
            ("holds left", str(len(last.redis.held))),
        ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))

"""The jobs of the chaos run of money: generations of tenants, each with a budget of its own for a part of its jobs."""

from __future__ import annotations

import random
from pathlib import Path

from producer_sdk.contract import Job, Message
from tests.chaos.stage import SLOW

ROUTING = Path(__file__).with_name("money.yaml")
NAMES = ("ants", "bees", "cats")
SHARES = (5, 3, 2)  # so that one is refused while the others are still called for
LATENCIES_MS = (100, 250, 500)
BUSY = "[busy]"
DOWN = "[down]"
# Failures that stay the job's own: an answer for an overloaded provider would lower the calls at once for all.
RULES = [
    {"match": {"contains": BUSY, "dialect": "openai"}, "status": 429, "retry_after": 0.2},
    {"match": {"contains": DOWN, "dialect": "openai"}, "status": 409},
    {"match": {"contains": SLOW}, "latency_ms": 1200, "chunk_ms": 20},
    *({"match": {"contains": f"[{ms} ms]"}, "latency_ms": ms} for ms in LATENCIES_MS),
]


def tenant(name: str, generation: int) -> str:
    """Each generation's tenants begin with their whole budgets."""
    return f"{name}-{generation}"


def job(dice: random.Random, number: int, generation: int) -> Job:
    """Of a tenant; some for a feature or a run with a budget of its own, some that wait for money."""
    kind = dice.choices([f"[{dice.choice(LATENCIES_MS)} ms]", DOWN, SLOW, BUSY], [66, 22, 7, 5])[0]
    text = f"{kind} {'please ' * dice.randint(1, 30)} question {number} of {dice.getrandbits(32)}"
    whose = tenant(dice.choices(NAMES, SHARES)[0], generation)
    return Job(
        idempotency_key=f"question {number}",
        tenant=whose,
        task="ask",
        feature=dice.choices(["", "digest"], [70, 30])[0],
        run_id=dice.choices([None, f"run of {whose}"], [75, 25])[0],
        messages=[Message(role="user", content=text)],
        lane=dice.choices(["interactive", "batch"], [70, 30])[0],
        priority=dice.randint(0, 9),
        on_budget=dice.choices(["reject", "park"], [70, 30])[0],
    )

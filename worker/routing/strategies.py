"""In which order an alias's deployments are tried: four strategies, each a pure function of them and of the job.

A deployment of weight 0 is the last resort of every strategy but `ordered`. Where a job has a static prefix, its key
has a home among the deployments; `cheapest` and `fastest` stay at it while it is not much worse than the best.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from worker.routing_file import Deployment, Strategy

STAYS_WITHIN = 1.5  # times the best figure: a warm prefix cache is worth that much
EXPLORED_SHARE = 1 / 8  # of the jobs, while there are deployments whose speed is not known
SAME_SPEED = (
    1.1  # predictions nearer than about that are the same: they are measured, and all of them at once change
)


@dataclass(frozen=True)
class Asked:
    """What an order depends on besides the deployments.

    `seed` is the job's, or that of its tenant and the key of its prefix (`has_prefix`); `draw` is the job's own, from
    0 to 1. `cost_pico` and `latency_ms` are predicted, by deployment, where they are known.
    """

    seed: str
    has_prefix: bool = False
    draw: float = 1.0
    cost_pico: Mapping[str, int] = field(default_factory=dict)
    latency_ms: Mapping[str, int] = field(default_factory=dict)


def ordered(deployments: Sequence[Deployment], _asked: Asked) -> list[Deployment]:
    """As the file lists them."""
    return list(deployments)


def weighted(deployments: Sequence[Deployment], asked: Asked) -> list[Deployment]:
    """By weight: each position is drawn in proportion to the weights left (an exponential race, seeded by hash)."""
    racing = sorted((d for d in deployments if d.weight), key=lambda d: _race(d, asked.seed))
    return racing + _last_resorts(deployments)


def cheapest(deployments: Sequence[Deployment], asked: Asked) -> list[Deployment]:
    """By the predicted cost of this job; at the same cost by weight."""
    racing = weighted([d for d in deployments if d.weight], asked)
    priced = sorted((d for d in racing if d.name in asked.cost_pico), key=lambda d: asked.cost_pico[d.name])
    others = [d for d in racing if d.name not in asked.cost_pico]
    return _at_home(priced, racing, asked.cost_pico, asked) + others + _last_resorts(deployments)


def fastest(deployments: Sequence[Deployment], asked: Asked) -> list[Deployment]:
    """By predicted latency; at about the same one by weight.

    Those whose speed is not known come after, but first for a share of the jobs, so that it is measured.
    """
    racing = weighted([d for d in deployments if d.weight], asked)
    known = sorted((d for d in racing if d.name in asked.latency_ms), key=lambda d: _pace(d, asked))
    unknown = [d for d in racing if d.name not in asked.latency_ms]
    found = _at_home(known, racing, asked.latency_ms, asked)
    if unknown and asked.draw < EXPLORED_SHARE:
        found = [unknown[0], *found, *unknown[1:]]
    else:
        found += unknown
    return found + _last_resorts(deployments)


STRATEGIES: Mapping[Strategy, Callable[[Sequence[Deployment], Asked], list[Deployment]]] = {
    "ordered": ordered,
    "weighted": weighted,
    "cheapest": cheapest,
    "fastest": fastest,
}


def draw(job_id: object) -> float:
    """From 0 to 1, the same for the same job."""
    return _uniform(f"draw\0{job_id}")


def _at_home(
    best_first: list[Deployment], racing: Sequence[Deployment], figures: Mapping[str, int], asked: Asked
) -> list[Deployment]:
    """The home of the job's prefix first, where it is within STAYS_WITHIN of the best."""
    if not asked.has_prefix or not best_first:
        return best_first
    home = racing[0]
    if home.name not in figures or figures[home.name] > STAYS_WITHIN * figures[best_first[0].name]:
        return best_first
    return [home, *(d for d in best_first if d is not home)]


def _pace(deployment: Deployment, asked: Asked) -> int:
    return round(math.log(max(1, asked.latency_ms[deployment.name]), SAME_SPEED))


def _last_resorts(deployments: Sequence[Deployment]) -> list[Deployment]:
    return [d for d in deployments if not d.weight]


def _race(deployment: Deployment, seed: str) -> float:
    return -math.log(_uniform(f"{seed}\0{deployment.name}")) / deployment.weight


def _uniform(text: str) -> float:
    """Above 0 and below 1."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") + 1) / (2**56 + 1)

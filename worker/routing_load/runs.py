"""Caps of agent runs in routing.yaml: how many jobs, how deep, how long, and how often the same request."""

from __future__ import annotations

from worker.routing_load.yaml_nodes import Fields

RUN_KEYS = ("run_max_calls", "run_max_depth", "run_max_seconds", "run_max_repeats")


def run_caps_of(fields: Fields) -> dict[str, int | None]:
    """The caps that these fields state, by the tier's names."""
    return {
        "run_max_calls": fields.whole("run_max_calls"),
        "run_max_depth": fields.whole("run_max_depth", low=0, high=1_000),
        "run_max_seconds": fields.whole("run_max_seconds", high=31_536_000),
        "run_max_repeats": fields.whole("run_max_repeats", high=1_000_000),
    }

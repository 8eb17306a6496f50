"""What routing.yaml knows better than the table of capabilities: `capabilities` of a provider or a deployment."""

from __future__ import annotations

from worker.capability_rows import CAPABILITIES
from worker.routing_load.yaml_nodes import Fields


def capabilities_of(fields: Fields) -> dict[str, bool]:
    """What is taken (true) or refused (false), by capability; empty where nothing is said."""
    if "capabilities" not in fields.entries:
        return {}
    stated = fields.entries["capabilities"].fields(CAPABILITIES)
    return {name: place.truth() for name, place in stated.entries.items()}

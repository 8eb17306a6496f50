"""Reads routing.yaml: a file a section of it; `load` gives its values, `check` every mistake."""

from worker.routing_load.file import check, load, packaged_routing

__all__ = ["check", "load", "packaged_routing"]

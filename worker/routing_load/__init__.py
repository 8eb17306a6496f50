"""Reads routing.yaml: a file a section of it; `load` gives its values, `check` every mistake."""

from worker.routing_load.file import Source, check, load, load_source, packaged_routing, source_of

__all__ = ["Source", "check", "load", "load_source", "packaged_routing", "source_of"]

"""Reads routing.yaml: a file a section of it; `load` gives its values, `check` its mistakes."""

from worker.routing_load.file import Source, check, load, load_source, packaged_routing, source_of
from worker.routing_load.schema import routing_schema

__all__ = ["Source", "check", "load", "load_source", "packaged_routing", "routing_schema", "source_of"]

"""The wire contract as JSON Schema: `python -m producer_sdk.contract.schema` writes schema.json beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from producer_sdk.contract.control import (
    BatchReserved,
    ConfirmBatches,
    ReleaseBatches,
    ReserveBatch,
    UsageQuestion,
    UsageReport,
)
from producer_sdk.contract.envelope import VERSION, Header
from producer_sdk.contract.job import Job
from producer_sdk.contract.result import JobResult
from producer_sdk.contract.stream import StreamEvent

PATH = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """Header and Job as a producer may send them, JobResult and StreamEvent as a worker writes them, under `$defs`; and
    control jobs' questions and answers."""
    _, document = models_json_schema(
        [
            (Header, "validation"),
            (Job, "validation"),
            (JobResult, "serialization"),
            (StreamEvent, "serialization"),
            (ReserveBatch, "validation"),
            (BatchReserved, "serialization"),
            (ConfirmBatches, "validation"),
            (ReleaseBatches, "validation"),
            (UsageQuestion, "validation"),
            (UsageReport, "serialization"),
        ],
        title=f"Fairlane wire contract, version {VERSION}",
        description="See docs/wire.md. A message's first line is a Header, its body holds a Job.",
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def render() -> str:
    """The text of schema.json."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")

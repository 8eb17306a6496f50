"""schema.json is what the models say, and what the models write passes it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from producer_sdk.contract import ErrorCode, Job, JobError, JobResult, uuid7
from producer_sdk.contract.envelope import pack
from producer_sdk.contract.schema import PATH, render, schema


def passes(instance: Any, name: str) -> None:
    document = {**schema(), "$ref": f"#/$defs/{name}"}
    jsonschema.Draft202012Validator(document).validate(instance)


def test_the_file_is_what_the_models_say() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run python -m producer_sdk.contract.schema"


def test_a_packed_message_passes_the_schema() -> None:
    job = Job.model_validate({"tenant": "acme", "task": "t", "messages": [{"role": "user", "content": "hi"}]})
    head, body = pack(job, signing_key=b"key").message.split(b"\n", 1)
    passes(json.loads(head), "Header")
    passes(json.loads(body)[1]["job"], "Job")


def test_a_result_passes_the_schema() -> None:
    result = JobResult.ended(uuid7(), JobError.of(ErrorCode.QUEUE_FULL, "full", retry_after_s=1.5))
    passes(result.model_dump(mode="json"), "JobResult")


@pytest.mark.parametrize(
    "fields", [{}, {"tenant": "a"}, {"tenant": "a", "task": "t", "messages": [], "x": 1}]
)
def test_a_bad_job_does_not_pass_the_schema(fields: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        passes(fields, "Job")

"""Jobs with inputs, and vectors on the wire."""

from __future__ import annotations

import json
import uuid
from array import array
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from producer_sdk.contract import MOST_VECTOR_BYTES, Job, JobResult, Vectors
from producer_sdk.contract.envelope import (
    MAX_BODY_BYTES,
    BadMessage,
    check_job,
    estimate_tokens,
    pack,
    read_job,
    unpack,
)

ASKED: dict[str, Any] = {"tenant": "acme", "task": "embed", "inputs": ["one", "two"]}


def test_a_job_with_inputs_travels_as_it_was_given():
    job = check_job({**ASKED, "params": {"dimensions": 64}})
    entry = pack(job)
    assert read_job(unpack(entry.message)) == job
    assert (job.inputs, job.messages, job.feature) == (["one", "two"], [], "embed")
    assert check_job({**ASKED, "inputs": "one"}).inputs == ["one"]


def test_an_embedding_is_estimated_by_its_input_alone():
    job = Job.model_validate({**ASKED, "inputs": ["x" * 320, "y" * 320]})
    assert estimate_tokens(job) == (201, 0)
    entry = pack(job)
    assert (entry.tokens, entry.cost) == (201, 201)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inputs": []}, "job.messages: give the job messages, or inputs where its task is an embedding"),
        ({"messages": "hello"}, "job.messages: a job has messages or inputs, not both"),
        ({"inputs": ["a", ""]}, "job.inputs[1]: String should have at least 1 character"),
        ({"inputs": ["a"] * 2_049}, "job.inputs: List should have at most 2048 items"),
        ({"inputs": [7]}, "job.inputs[0]: Input should be a valid string"),
        ({"params": {"dimensions": 0}}, "job.params.dimensions: Input should be greater than 0"),
        (
            {"params": {"temperature": 0, "seed": 7}},
            "a job with inputs has no params but dimensions: leave out temperature, seed",
        ),
        (
            {"documents": [{"id": "d", "text": "t"}]},
            "a job with inputs has no documents: each text is an input",
        ),
        ({"stream": True}, "a job with inputs has no stream"),
        (
            {"inputs": [], "messages": "hello", "params": {"dimensions": 3}},
            "params.dimensions is the length of vectors: give the job inputs",
        ),
        ({"input": ["one"]}, "job.input: unknown field, did you mean 'inputs'?"),
    ],
)
def test_what_no_embedding_can_use_is_refused_with_what_to_do(change: dict[str, Any], sentence: str):
    with pytest.raises(BadMessage) as caught:
        check_job({**ASKED, **change})
    assert sentence in str(caught.value)


@settings(max_examples=50)
@given(
    st.integers(1, 5).flatmap(
        lambda length: st.lists(
            st.lists(st.floats(width=32, allow_nan=False), min_size=length, max_size=length), max_size=4
        )
    )
)
def test_vectors_come_back_as_they_were_sent(vectors: list[list[float]]):
    dimensions = len(vectors[0]) if vectors else 1
    packed = Vectors.packed([array("f", one) for one in vectors], dimensions=dimensions)
    assert Vectors.model_validate_json(packed.model_dump_json()).lists() == vectors


def test_vectors_are_little_endian_whatever_the_machine_is():
    assert Vectors(dimensions=2, data="AAAAPwAAgL4=").lists() == [[0.5, -0.25]]


@pytest.mark.parametrize("data", ["AAAAPwAAgL4", "AAAAPw==", "?", "AAAAPwAAgL4=AAAA"])
def test_what_is_no_whole_number_of_vectors_is_refused(data: str):
    with pytest.raises(ValidationError, match="the vectors' data"):
        Vectors(dimensions=2, data=data)


def test_a_result_has_vectors_on_the_wire_only_where_it_has_them():
    job_id = uuid.uuid4()
    plain = JobResult(job_id=job_id, status="succeeded", text="hi")
    assert "vectors" not in json.loads(plain.model_dump_json()), "older workers read what is stored"
    assert plain.embeddings == []
    vectors = Vectors.packed([array("f", [1, 0]), array("f", [0, 1])], dimensions=2)
    made = JobResult(job_id=job_id, status="succeeded", vectors=vectors)
    again = JobResult.model_validate_json(made.model_dump_json())
    assert again.embeddings == [[1.0, 0.0], [0.0, 1.0]]
    assert "AACAPw" not in repr(made)


def test_the_largest_vectors_are_under_a_results_limit():
    vectors = Vectors.packed([array("f", bytes(MOST_VECTOR_BYTES))], dimensions=1)
    result = JobResult(job_id=uuid.uuid4(), status="succeeded", cost_usd=Decimal("0.1"), vectors=vectors)
    assert len(result.model_dump_json()) < MAX_BODY_BYTES - 350_000

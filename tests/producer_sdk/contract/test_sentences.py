"""A mistake is one sentence: it names the field and the nearest right name, and never says what was sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_sdk.contract import Job
from producer_sdk.contract.envelope import BadMessage, check_job

GOOD: dict[str, Any] = {
    "tenant": "acme",
    "task": "classify",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "documents": [{"id": "d1", "text": "context"}],
    "params": {"temperature": 0.5, "tools": [{"name": "look_up", "parameters": {}}]},
    "metadata": {"source": "mail"},
    "job_id": "0190b1c2-0000-7000-8000-000000000000",
    "deadline": "2026-11-23T12:00:00Z",
    "priority": 3,
}
SECRET = "zebra-4711"


def sentence_for(fields: Any) -> str:
    with pytest.raises(BadMessage) as caught:
        check_job(fields)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prioritty": 3}, "job.prioritty: unknown field, did you mean 'priority'?"),
        ({"temperatur": 1}, "job.temperatur: unknown field, did you mean 'params.temperature'?"),
        ({"xyzzy": 1}, "job.xyzzy: unknown field, remove it"),
        ({"params": {"max_output_token": 5}}, "did you mean 'max_output_tokens'?"),
        (
            {"messages": [{"rol": "user", "content": "x"}]},
            "job.messages[0].rol: unknown field, did you mean 'role'?",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "txt": "x"}]}]}, "did you mean 'text'?"),
        ({"messages": [{"role": "user", "content": [{"type": SECRET}]}]}, "should be one of 'text', 'image'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "needs the tool_call_id"),
        ({"messages": []}, "job.messages: give the job messages, or inputs"),
        ({"job_id": SECRET}, "job.job_id: Input should be a UUID"),
        ({"tenant": None}, "job.tenant: "),
        ({"documents": [{"text": "x"}]}, "job.documents[0].id: this field is required"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "Unicode without lone surrogates"),
    ],
)
def test_the_sentence_names_the_field_and_what_would_be_right(change: dict[str, Any], sentence: str) -> None:
    assert sentence in sentence_for(GOOD | change)


def test_what_is_not_a_job_at_all_is_said_plainly() -> None:
    assert sentence_for(5) == "job: Input should be a valid dictionary or instance of Job"


def test_many_faults_are_three_and_a_count() -> None:
    said = sentence_for({"tenant": 1, "task": 2, "messages": 3, "priority": "x", "lane": "y"})
    assert said.count(";") == 2
    assert "more)" in said


def test_a_field_name_that_is_no_name_is_cut_and_made_printable() -> None:
    said = sentence_for(GOOD | {"a\nb" + "c" * 500: 1})
    assert len(said) < 100
    assert "\n" not in said


def said_of(fields: Any) -> str:
    try:
        check_job(fields)
    except BadMessage as error:
        return str(error)
    return ""


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for step, part in inside for place in places(part, (*at, step)))]


def put_at(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    step, *rest = place
    if isinstance(value, dict):
        return value | {step: put_at(value[step], tuple(rest), new)}
    return [put_at(part, tuple(rest), new) if at == step else part for at, part in enumerate(value)]


@given(
    place=st.sampled_from(places(GOOD)),
    wrong=st.sampled_from(
        [SECRET, [SECRET], {"k": SECRET}, 10**30, -1, True, None, float("inf"), SECRET.encode()]
    ),
)
def test_no_value_is_ever_repeated_wherever_it_was_put(place: tuple[Any, ...], wrong: Any) -> None:
    said = said_of(put_at(GOOD, place, wrong))
    assert SECRET not in said
    assert str(10**30) not in said


def test_the_good_job_is_good() -> None:
    assert isinstance(check_job(GOOD), Job)

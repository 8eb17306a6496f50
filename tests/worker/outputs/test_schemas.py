"""Which schemas are refused, what of one an answer does not meet, and that neither can hold a worker up."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outputs import schemas

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "uniqueItems": True},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {"tag": {"enum": ["a", "b"]}},
}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"name": "Ada", "age": 36}', {"name": "Ada", "age": 36}),
        (
            ' \n```json\n{"name": "Ada", "age": 36, "tags": ["a"]}\n```\n',
            {"name": "Ada", "age": 36, "tags": ["a"]},
        ),
        ('{"name": "Ada", "age": 36.0}', {"name": "Ada", "age": 36.0}),
    ],
)
def test_json_that_fits_is_read_bare_or_fenced(text: str, data: Any):
    assert schemas.read(text, PERSON) == (data, ())


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("Ada is 36", ("it is not JSON, or not whole",)),
        ("", ("it is not JSON, or not whole",)),
        ('Here: {"name": "Ada", "age": 36}', ("it is not JSON, or not whole",)),
        ('{"name": "Ada", "age": 3', ("it is not JSON, or not whole",)),
        ('{"name": "Ada", "age": NaN}', ("it is not JSON, or not whole",)),
        ('{"name": "Ada", "age": 1e999}', ("a number of it is too large",)),
        ("[" * 500 + "]" * 500, ("it is not JSON, or not whole",)),
        ('{"name": "Ada"}', ('#/required: ["age"]',)),
        (
            '{"name": "ada", "age": -1}',
            ('#/properties/name/pattern: "^[A-Z]"', "#/properties/age/minimum: 0"),
        ),
        ('{"name": "Ada", "age": "36"}', ('#/properties/age/type: "integer"',)),
        ('{"name": "Ada", "age": 36, "x": 1}', ("#/additionalProperties: false",)),
        ('{"name": "Ada", "age": 1, "tags": ["c"]}', ('#/properties/tags/items/enum: ["a", "b"]',)),
        ('{"name": "Ada", "age": 1, "tags": ["a", "a"]}', ("#/properties/tags/uniqueItems: true",)),
        ("[]", ('#/type: "object"',)),
    ],
)
def test_what_does_not_fit_is_told_by_the_schemas_words(text: str, faults: tuple[str, ...]):
    assert schemas.read(text, PERSON)[1] == faults


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "objekt"}, "it is no JSON Schema at #/type"),
        ({"required": "name"}, "it is no JSON Schema at #/required"),
        ({"$schema": "https://elsewhere.example/draft"}, "$schema is not a draft"),
        ({"$schema": 7}, "$schema is not a draft"),
        ({"$ref": "https://elsewhere.example/schema.json"}, "nothing is fetched"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "nothing is fetched"),
        ({"$defs": {"a": {"$dynamicRef": "other.json#x"}}}, "nothing is fetched"),
        ({"$ref": "#/$defs/no"}, "leads nowhere"),
        ({"$ref": "#"}, "refers to itself"),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "itself"),
        ({"$defs": {"a": {"$id": "https://elsewhere.example/a"}}}, "$id of its own"),
        ({"pattern": "(?=a)b"}, "linear time"),
        ({"pattern": r"(a)\1"}, "linear time"),
        ({"patternProperties": {"(": {}}}, "linear time"),
        ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "linear time"),
        ({"description": "x" * 70_000}, "it has 70018 bytes, and may have 65536"),
        (json.loads('{"items": ' * 65 + "{}" + "}" * 65), "deeper than 64 levels"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(schema: dict[str, Any], why: str):
    assert why in str(schemas.refusal(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {},
        PERSON,
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": {"$ref": "#/definitions/a"}}
        | {"definitions": {"a": {"type": "string"}}},
        {
            "$id": "https://elsewhere.example/me",
            "properties": {"a": {"$ref": "#/$defs/b"}},
            "$defs": {"b": {}},
        },
        {"properties": {"child": {"$ref": "#"}}},
        {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}}},
        {"format": "date", "patternProperties": {r"^\p{L}+$": {"type": "string"}}},
    ],
)
def test_a_schema_of_any_draft_with_references_inside_is_used(schema: dict[str, Any]):
    assert schemas.refusal(schema) is None


def test_a_pattern_that_would_backtrack_for_ever_is_matched_in_time():
    began = time.monotonic()
    faults = schemas.faults({"pattern": "^(a+)+$"}, "a" * 100_000 + "b")
    assert faults == ('#/pattern: "^(a+)+$"',)
    assert time.monotonic() - began < 2.0


def test_pattern_properties_are_checked_by_the_same_patterns():
    schema = {"patternProperties": {"^n": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    assert schemas.faults(schema, {"n": 1, "x": "y"}) == ()
    assert schemas.faults(schema, {"n": "1"}) == ('#/patternProperties/^n/type: "integer"',)
    assert schemas.faults(schema, {"x": 1}) == ('#/additionalProperties/type: "string"',)


def test_a_schema_that_takes_nothing_is_named():
    assert schemas.faults({"properties": {"x": False}}, {"x": 1}) == ("#/properties: false",)


def test_a_schema_that_doubles_its_work_at_each_step_is_given_up():
    doubling = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(30)
    }
    schema = {"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": doubling | {"d30": {"type": "string"}}}
    assert schemas.refusal(schema) is None
    assert schemas.faults(schema, {"x": 1}) == ("it takes too long to be checked against the schema",)


def test_an_answer_nested_as_deep_as_json_may_be_is_checked():
    value: Any = 1
    for _ in range(190):
        value = {"child": value}
    assert schemas.faults({"properties": {"child": {"$ref": "#"}}}, value) in (
        (),
        ("it is nested too deep to be checked against the schema",),
    )


def test_texts_are_all_that_a_value_says():
    assert list(schemas.texts({"a": ["x", {"b": "y"}], "c": 1, "d": "z"})) == ["x", "y", "z"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_any_value_is_read_as_what_it_is(value: Any):
    assert schemas.read(json.dumps(value), {}) == (value, ())

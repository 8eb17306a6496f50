"""The schema for editors takes what the loader takes, and refuses what it refuses, where a schema can say it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.worker.good_routing_file import GOOD
from tests.worker.job_runs import REPO
from tests.worker.wrong_routing_files import WRONG
from worker.routing_load import check, routing_schema
from worker.routing_load.schema import TABLES

SHIPPED = REPO / "docs" / "routing.schema.json"
VALIDATOR = Draft202012Validator(routing_schema())
# What only the loader can say: names that must exist, what stands twice or depends on another value, and YAML itself.
BEYOND_A_SCHEMA = (
    "there is no alias",
    "there is no provider",
    "there is no tier",
    "there is no time zone",
    "stands twice",
    "both allowed and denied",
    "which this tier does not allow",
    "link-local address",
    "found 'priority', write standard_only",
    "it is over context_tokens",
    "it is over dimensions",
    "its capabilities say that it takes none",
    "holds embedding models",
    "holds chat models",
    "and this alias begins with",
    "has no embeddings",
    "cannot be compared",
    "in another alias",
    "this is not YAML",
    "levels deep",
    "a character that YAML does not allow",
    "found 'yes', write true or false",  # YAML 1.1 reads it as true
    "found '.nan'",
)


def as_json(text: str) -> Any:
    """The file as an editor's JSON sees it: every key a string."""
    return json.loads(json.dumps(yaml.safe_load(text)))


def faults(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(as_json(text))]


def test_it_is_a_schema_and_the_shipped_copy_is_this_one() -> None:
    Draft202012Validator.check_schema(routing_schema())
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    assert shipped == routing_schema(), "renew it: fairlane routing schema > docs/routing.schema.json"


@pytest.mark.parametrize("section", TABLES)
def test_every_key_of_the_loader_is_described(section: str) -> None:
    keys, table = TABLES[section]
    undescribed = [key for key in keys if key not in table]
    assert not undescribed, (
        f"say what {undescribed} may be: a line each in {section} of worker/routing_load/schema.py, then "
        "`fairlane routing schema > docs/routing.schema.json`"
    )
    assert [key for key in table if key not in keys] == [], "described, but not known to the loader"
    assert all(one.get("description") or "$ref" in one for one in table.values())


@pytest.mark.parametrize("path", ["routing.yaml", "tests/chaos/routing.yaml", "tests/chaos/money.yaml"])
def test_files_that_load_are_taken(path: str) -> None:
    assert faults((REPO / path).read_text(encoding="utf-8")) == []


def test_the_shipped_file_names_it() -> None:
    first = (REPO / "routing.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SHIPPED.relative_to(REPO)}"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD + "default_tier: free\nfleet: {daily_budget_usd: 5, soft_limit: 80}\n",
        GOOD.replace("{input: 1, output: 2}", "{free: true}"),
        GOOD.replace("output: 2}", "output: 2, above: {200000: {input: 2, output: 3}}}"),
        GOOD.replace("output: 2}", "output: 2, service_tiers: {batch: {input: 1, output: 2}}}"),
        GOOD.replace("deny: [large]", "deny: large, soft_limit: [80, 95], features: {chat: {soft_limit: 9}}"),
    ],
)
def test_good_files_are_taken_by_both(tmp_path: Path, text: str) -> None:
    (tmp_path / "routing.yaml").write_text(text)
    assert check(tmp_path / "routing.yaml") == []
    assert faults(text) == []


@pytest.mark.parametrize(
    "text", [text for text, said in WRONG if not any(beyond in said for beyond in BEYOND_A_SCHEMA)]
)
def test_wrong_files_are_refused_by_the_schema_too(text: str) -> None:
    assert faults(text)


def bounded(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every number of a section that has a value of its own in GOOD, where no task is an embedding's."""
    for section, at in (
        ("task", ("tasks", "ask")),
        ("tier", ("tiers", "free")),
        ("provider", ("providers", "openai")),
    ):
        for key, value in schema["$defs"][section]["properties"].items():
            if key != "dimensions" and value.get("type") in ("integer", "number"):
                yield (*at, key), value


@pytest.mark.parametrize(
    ("path", "value"), list(bounded(routing_schema())), ids=lambda value: str(value)[:60]
)
def test_its_bounds_are_the_loaders(tmp_path: Path, path: tuple[str, ...], value: dict[str, Any]) -> None:
    at, low, high = tmp_path / "routing.yaml", value["minimum"], value["maximum"]
    for found, is_good in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        content = yaml.safe_load(GOOD)
        content[path[0]][path[1]][path[2]] = found
        at.write_text(yaml.safe_dump(content))
        assert (check(at) == []) is is_good
        assert VALIDATOR.is_valid(content) is is_good

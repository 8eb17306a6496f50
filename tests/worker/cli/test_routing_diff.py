"""`fairlane routing diff`: who is met by a change of routing.yaml, and how; a hundred tenants alike are one group."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from worker.cli.main import cli
from worker.cli.plan_changes import EVERYBODY, Difference, difference
from worker.routing_load import Source, load_source

MANY = "".join(f"  t{number:03}: free\n" for number in range(100))
ROUTING = """\
providers:
  local: {dialect: openai, base_url: "http://127.0.0.1:1"}
  cloud: {dialect: openai, base_url: "http://127.0.0.1:2", daily_budget_usd: 9}
aliases:
  small:
    - {provider: local, model: s, context_tokens: 900, max_output_tokens: 90, weight: 2, price: {input: 1, output: 2}}
    - {provider: cloud, model: s, context_tokens: 900, max_output_tokens: 90, weight: 1, price: {input: 1, output: 2}}
  large:
    - {provider: cloud, model: l, context_tokens: 900, max_output_tokens: 90, price: {input: 5, output: 9}}
tasks:
  ask: {default: small, max_cost_usd: 0.5}
  write: {default: large, fallback: small}
tiers:
  free: {deny: large, daily_budget_usd: 1}
  pro: {concurrency: 7, soft_limit: 80}
tenants:
  acme: pro
  globex: {tier: pro, concurrency: 9}
"""
ROUTING += MANY


def changed(*replacements: tuple[str, str]) -> Difference:
    text = ROUTING
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return between(ROUTING, text)


def between(old: str, new: str) -> Difference:
    return difference(*(load_source(Source("routing.yaml", text.encode()))[0] for text in (old, new)))


def told(found: Difference) -> dict[tuple[int, tuple[str, ...], tuple[str, ...]], list[str]]:
    return {
        (len(group.tenants), group.tiers, group.tasks): [change.said() for change in group.changes]
        for group in found.groups
    }


def test_the_same_plans_written_differently_are_no_change() -> None:
    assert changed(("weight: 1, price", "price")).is_none


def test_a_hundred_tenants_of_a_tier_with_the_same_change_are_one_group() -> None:
    found = changed(("daily_budget_usd: 1}", "daily_budget_usd: 2, max_pending: 5}"))
    assert told(found) == {(100, ("free",), ()): ["daily_budget_usd: 1 → 2", "max_pending is new: 5"]}
    assert found.fleet == ()


def test_a_deployment_changes_the_plans_of_those_that_may_use_it() -> None:
    price = "price: {input: 5, output: 9}"
    assert told(changed((price, "price: {input: 4, output: 9}"))) == {
        (2, ("pro",), ("write",)): ["large: cloud/l price.input: 5 → 4"]
    }
    assert told(changed(("weight: 2", "weight: 0"), ("weight: 1", "weight: 0"))) == {
        (102, ("free", "pro"), ("ask", "write")): [
            "small: local/s: weight 2 → weight 0, place 1",
            "small: cloud/s: weight 1 → weight 0, place 2",
        ]
    }


def test_where_a_provider_is_and_whose_key_it_takes_are_changes_of_its_plans() -> None:
    assert told(
        changed(('base_url: "http://127.0.0.1:1"', 'base_url: "http://127.0.0.1:9", key_env: K'))
    ) == {
        (102, ("free", "pro"), ("ask", "write")): [
            "small: local/s provider's base_url: http://127.0.0.1:1 → http://127.0.0.1:9",
            "small: local/s provider's key_env is new: K",
        ]
    }


SMALL = """\
  small:
    - {provider: local, model: s, context_tokens: 900, max_output_tokens: 90, weight: 2, price: {input: 1, output: 2}}
    - {provider: cloud, model: s, context_tokens: 900, max_output_tokens: 90, weight: 1, price: {input: 1, output: 2}}
"""


def by_strategy(strategy: str, *, turned: bool = False) -> str:
    first, second = SMALL.splitlines()[1:]
    lines = [f"    {line}" for line in ((second, first) if turned else (first, second))]
    return "\n".join(["  small:", f"    strategy: {strategy}", "    deployments:", *lines, ""])


def test_another_strategy_changes_the_plans_of_its_alias() -> None:
    assert told(changed((SMALL, by_strategy("cheapest")))) == {
        (102, ("free", "pro"), ("ask", "write")): ["small: strategy: weighted → cheapest"]
    }


def test_another_order_is_a_change_where_the_file_says_the_order() -> None:
    old, new = (ROUTING.replace(SMALL, by_strategy("ordered", turned=turned)) for turned in (False, True))
    assert told(between(old, new)) == {
        (102, ("free", "pro"), ("ask", "write")): [
            "small: local/s: place 1 → place 2",
            "small: cloud/s: place 2 → place 1",
        ]
    }


def test_a_tenants_own_keys_are_its_change() -> None:
    own = "globex: {tier: pro, concurrency: 9, keys: {cloud: {key_env: THEIRS}}, own_keys_only: true}"
    assert told(changed(("globex: {tier: pro, concurrency: 9}", own))) == {
        (1, ("pro",), ()): ["keys.cloud.env is new: THEIRS", "own_keys_only is new: true"]
    }


def test_an_alias_that_a_tier_may_use_now_changes_what_its_tenants_get() -> None:
    found = told(changed(("{deny: large, daily", "{daily")))
    assert list(found) == [(100, ("free",), ("write",))]
    said = found[(100, ("free",), ("write",))]
    assert said[:2] == ["aliases: small → large, small", "denied is gone: large"]
    assert "large: cloud/l is new: weight 1" in said


def test_a_tasks_limits_are_changes_of_its_plans() -> None:
    assert told(changed(("max_cost_usd: 0.5", "max_cost_usd: 0.4, max_latency_ms: 900"))) == {
        (102, ("free", "pro"), ("ask",)): ["max_cost_usd: 0.5 → 0.4", "max_latency_ms is new: 900"]
    }


def test_tenants_that_come_and_go_are_said_without_all_that_they_may_do() -> None:
    assert told(changed(("  acme: pro\n", "  initech: free\n"))) == {
        (1, ("pro",), ()): ["tenant is gone: of tier pro"],
        (1, ("free",), ()): ["tenant is new: of tier free"],
    }


def test_a_tenants_own_word_stands_where_its_tier_changes() -> None:
    found = changed(("concurrency: 7", "concurrency: 8"))
    assert [(group.tenants, told(found)[(1, ("pro",), ())]) for group in found.groups] == [
        (("acme",), ["concurrency: 7 → 8"])
    ]


def test_a_default_tier_is_everybody_elses_change() -> None:
    found = changed(("tasks:\n  ask", "default_tier: free\ntasks:\n  ask"))
    assert [group.tenants for group in found.groups] == [(EVERYBODY,)]


def test_what_is_nobodys_alone_is_the_fleets() -> None:
    found = changed(
        ("daily_budget_usd: 9}", "daily_budget_usd: 8}"),
        ("  ask: {default: small, max_cost_usd: 0.5}\n", "  tell: {default: small}\n"),
        ("tiers:\n", "fleet: {monthly_budget_usd: 50}\ntiers:\n"),
    )
    assert [change.said() for change in found.fleet] == [
        "provider cloud budget.daily_usd: 9 → 8",
        "task ask is gone",
        "fleet.monthly_usd is new: 50",
        "task tell is new",
    ]
    assert found.groups == ()


@pytest.fixture
def diff(tmp_path: Path) -> Callable[..., Result]:
    def run(new: str, *words: str) -> Result:
        for name, text in (("old.yaml", ROUTING), ("new.yaml", new)):
            (tmp_path / name).write_text(text)
        paths = [str(tmp_path / name) for name in ("old.yaml", "new.yaml")]
        return CliRunner().invoke(cli, ["routing", "diff", *paths, *words])

    return run


def test_the_exit_code_says_whether_anything_changes(diff: Callable[..., Result]) -> None:
    assert diff(ROUTING).exit_code == 0
    assert diff(ROUTING).stdout.startswith("Nothing changes for anybody from ")
    result = diff(ROUTING.replace("daily_budget_usd: 1}", "daily_budget_usd: 2}"))
    assert result.exit_code == 1
    assert result.stdout == (
        "100 tenants of free (t000, t001, t002, t003, t004, …), limits:\n  daily_budget_usd: 1 → 2\n"
    )
    result = diff(ROUTING.replace("default: small", "default: smal"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "new.yaml:11:18: tasks.ask.default: there is no alias 'smal'" in result.stderr


def test_it_is_told_as_json_too(diff: Callable[..., Result]) -> None:
    said = json.loads(diff(ROUTING.replace("soft_limit: 80", "soft_limit: [80, 95]"), "--json").stdout)
    assert said["changed"] is True
    assert said["groups"] == [
        {
            "tenants": ["acme", "globex"],
            "tiers": ["pro"],
            "tasks": [],
            "changes": [{"what": "soft_limit", "old": "80", "new": "80, 95"}],
        }
    ]

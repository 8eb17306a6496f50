"""routing.yaml: the shipped one, the seed's, and every wrong one with its sentence and place."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.good_routing_file import GOOD, LARGE, SOL
from tests.worker.job_runs import REPO
from tests.worker.wrong_routing_files import WRONG
from worker.capability_rows import CAPABILITIES
from worker.embedded.local_model.server import MODEL
from worker.embedded.twin.prices import TWIN_PRICES
from worker.errors import ConfigError
from worker.routing_file import Price, Strategy
from worker.routing_load import check, load
from worker.routing_load.aliases import ALIAS_KEYS, DEPLOYMENT_KEYS
from worker.routing_load.file import SECTIONS
from worker.routing_load.prices import PRICE_KEYS
from worker.routing_load.providers import PROVIDER_KEYS
from worker.routing_load.tasks import TASK_KEYS
from worker.routing_load.tiers import LIMIT_KEYS, TENANT_KEYS

SHIPPED = REPO / "routing.yaml"


def written(folder: Path, text: str, name: str = "routing.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_has_no_fault_and_answers_without_any_key():
    assert check(SHIPPED) == []
    routing = load(SHIPPED)
    assert set(routing.aliases) == {
        "fast-small",
        "fast-medium",
        "balanced-medium",
        "balanced-large",
        "embed-small",
    }
    for alias in routing.aliases.values():
        assert [d for d in alias if d.provider.key_env is None], (
            "every alias has a deployment that needs no key"
        )
        assert {d.weight for d in alias if d.provider.key_env is None} == {0}, "which is the last resort"
        own = [d.price.free for d in alias if d.model == MODEL and d.price]
        assert own == [True] * (alias[0].kind == "chat"), "and the local model, which makes no vectors"


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_an_alias_is_a_list_or_a_mapping_with_a_strategy(tmp_path, strategy):
    listed = load(written(tmp_path, GOOD))
    mapped = GOOD.replace(LARGE, f"  large: {{strategy: {strategy}, deployments: [{SOL}]}}")
    found = load(written(tmp_path, mapped))
    assert (found.aliases, listed.strategies) == (listed.aliases, {})
    assert found.strategies.get("large", "weighted") == strategy
    without = load(written(tmp_path, GOOD.replace(LARGE, f"  large: {{deployments: [{SOL}]}}")))
    assert (without.aliases, without.strategies) == (listed.aliases, {})


def test_the_twins_prices_in_the_shipped_file_are_the_twins():
    stated = {
        d.model: d.price for d in load(SHIPPED).deployments().values() if d.provider.name.startswith("local")
    }
    per_million = Decimal(10**6)
    for model, price in TWIN_PRICES.items():
        found = stated[model]
        assert (found.input, found.output) == (price.input / per_million, price.output / per_million)
        of_cache = (price.cache_read / per_million, price.cache_write / per_million)
        stated_of_cache = (None, None) if model == "twin-embed" else of_cache
        assert (found.cache_read, found.cache_write) == stated_of_cache


def test_the_seeds_routing_file_loads_as_it_stands(shared_data: Path):
    seed = load(shared_data / "seed" / "routing.json")
    shipped = load(SHIPPED)
    classify, rag = seed.tasks["classify_intent"], seed.tasks["rag_answer"]
    assert (classify.default, classify.fallback) == ("fast-small", ("fast-medium",))
    assert (classify.max_latency_ms, classify.max_cost_usd) == (1000, Decimal("0.001"))
    assert (rag.default, rag.fallback, rag.requires_citations) == (
        "balanced-large",
        ("balanced-medium",),
        True,
    )
    assert (seed.aliases, seed.tenants, seed.tiers) == (shipped.aliases, shipped.tenants, shipped.tiers)
    assert seed.version != shipped.version


def test_the_seeds_notation_is_checked_like_a_whole_file(tmp_path: Path):
    path = written(tmp_path, '{\n\t"ask": {"default": "fast-smal"}\n}', "routing.json")
    assert check(path) == [
        "routing.json:2:21: ask.default: there is no alias 'fast-smal', did you mean 'fast-small'?"
    ]


def test_a_good_file_becomes_values(tmp_path: Path):
    routing = load(written(tmp_path, GOOD))
    tiny = routing.deployments()["local/tiny"]
    assert (tiny.weight, tiny.price.input, tiny.provider.base_url, tiny.provider.base_url_env) == (
        0,
        Decimal(1),
        "",
        "FAIRLANE_LOCAL_URL",
    )
    assert routing.tasks["ask"].fallback == ("large",)
    assert routing.tenants["acme"].tier.concurrency == 20
    assert (routing.tenants["globex"].tier.concurrency, routing.tenants["globex"].zone) == (
        7,
        "Europe/Berlin",
    )
    assert routing.tenants["globex"].tier.deny == {"large"}
    assert routing.tenant("nobody") is None


def test_a_default_tier_takes_every_other_tenant(tmp_path: Path):
    routing = load(written(tmp_path, GOOD + "default_tier: free\n"))
    assert routing.tenant("nobody").tier.name == "free"


def test_the_version_names_the_content(tmp_path: Path):
    one, same = load(written(tmp_path, GOOD)), load(written(tmp_path, GOOD, "copy.yaml"))
    other = load(written(tmp_path, GOOD.replace("0.001", "0.002")))
    assert one.version == same.version != other.version
    assert len(one.version) == 12


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_file_is_refused_with_its_place_and_what_would_be_right(
    tmp_path: Path, text: str, sentence: str
):
    path = written(tmp_path, text)
    assert check(path)[0] == sentence
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value).startswith(sentence)


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path):
    text = GOOD.replace("default: small", "default: smal").replace("acme: free", "acme: fre")
    path = written(tmp_path, text)
    assert len(check(path)) == 2
    with pytest.raises(ConfigError, match=r"\(and 1 more: fairlane routing check\)$"):
        load(path)


@pytest.mark.parametrize("section", ["providers", "aliases", "tasks", "tiers", "tenants"])
def test_a_mistake_is_told_once(tmp_path: Path, section: str):
    path = tmp_path / "routing.yaml"
    path.write_text(f"{section}: 3\n")
    found = check(path)
    assert len(found) == len(set(found))


def test_a_file_that_is_not_there_or_not_text_is_told_so(tmp_path: Path):
    assert (
        "cannot be read (No such file or directory): set FAIRLANE_ROUTING" in check(tmp_path / "none.yaml")[0]
    )
    broken = tmp_path / "routing.yaml"
    broken.write_bytes(b"tasks:\n  \xff: 1\n")
    assert check(broken) == ["routing.yaml:2:1: this line is not UTF-8: save the file as UTF-8"]
    broken.write_bytes(b" " * 1_000_001)
    assert check(broken) == ["routing.yaml:1:1: the file has 1000001 bytes, the limit is 1000000"]


def test_yaml_tags_make_no_objects(tmp_path: Path):
    path = written(tmp_path, "tasks: !!python/object/apply:os.system ['true']\n")
    assert check(path)


def test_a_recursive_alias_ends(tmp_path: Path):
    assert check(written(tmp_path, GOOD.replace("fallback: [large]", "fallback: &again [*again]")))


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
paths = st.sampled_from(
    [
        ("providers",),
        ("providers", "openai"),
        ("aliases", "small"),
        ("aliases", "small", 0),
        ("tasks", "ask", "fallback"),
        ("tasks", "ask"),
        ("tiers", "free"),
        ("tiers", "free", "deny"),
        ("tenants", "acme"),
        ("default_tier",),
    ]
)


@settings(max_examples=150)
@given(where=paths, value=yaml_values)
def test_whatever_stands_somewhere_in_a_file_it_loads_or_is_refused_with_sentences(
    tmp_path_factory, where, value
):
    tree = yaml.safe_load(GOOD)
    place = tree
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    path = tmp_path_factory.mktemp("routing") / "routing.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=False), encoding="utf-8")
    faults = check(path)
    assert all(fault.startswith("routing.yaml:") for fault in faults)
    if not faults:
        load(path)


@settings(max_examples=100)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_bytes_a_file_has_it_is_answered_with_sentences(tmp_path_factory, content: bytes):
    path = tmp_path_factory.mktemp("routing") / "routing.yaml"
    path.write_bytes(content)
    assert check(path)


def test_json_and_yaml_of_one_content_mean_the_same(tmp_path: Path):
    as_json = written(tmp_path, json.dumps(yaml.safe_load(GOOD)), "routing.json")
    one, other = load(as_json), load(written(tmp_path, GOOD))
    assert (one.tasks, one.tenants, one.aliases) == (other.tasks, other.tenants, other.aliases)


def test_a_price_is_read_with_its_tiers_and_sizes(tmp_path: Path):
    price = """{input: 1, output: 2, cache_write_1h: 3, reasoning: 4, above: {200000: {input: 5, output: 6}},
        service_tiers: {flex: {input: 7, output: 8, above: {9: {input: 10, output: 11}}}}},
        service_tier: flex, answers_as: [small-of-them, Other]"""
    routing = load(written(tmp_path, GOOD.replace("{input: 1, output: 2}", price)))
    tiny = routing.deployments()["local/tiny"]
    assert (tiny.service_tier, tiny.answers_as) == ("flex", ("small-of-them", "Other"))
    found = tiny.price
    assert (found.cache_write_1h, found.reasoning, found.cache_read, found.free) == (3, 4, None, False)
    assert found.above == {200_000: Price(Decimal(5), Decimal(6))}
    assert found.service_tiers["flex"].output == 8
    assert found.service_tiers["flex"].above[9].input == 10


def test_free_on_purpose_is_said_in_a_word(tmp_path: Path):
    routing = load(written(tmp_path, GOOD.replace("{input: 1, output: 2}", "{free: true}")))
    price = routing.deployments()["local/tiny"].price
    assert (price.free, price.input, price.output, price.cache_read) == (True, 0, 0, 0)


def test_what_a_file_knows_better_than_the_table_is_read(tmp_path: Path):
    content = GOOD.replace("key_env: OPENAI_API_KEY", "key_env: OPENAI_API_KEY, capabilities: {seed: false}")
    content = content.replace("max_output_tokens: 9,", "max_output_tokens: 9, capabilities: {images: false},")
    routing = load(written(tmp_path, content))
    assert routing.providers["openai"].capabilities == {"seed": False}
    assert routing.deployments()["local/tiny"].capabilities == {"images": False}
    assert routing.deployments()["openai/gpt-6-luna"].capabilities == {}


def test_the_reference_names_every_key():
    reference = (REPO / "docs" / "routing.md").read_text(encoding="utf-8")
    known = (*SECTIONS, *PROVIDER_KEYS, *ALIAS_KEYS, *DEPLOYMENT_KEYS, *PRICE_KEYS)
    known += (*TASK_KEYS, *LIMIT_KEYS, *TENANT_KEYS, *CAPABILITIES)
    assert [key for key in known if not re.search(rf"\b{key}\b", reference)] == []


def test_the_reference_shows_vendors_that_are_right(tmp_path: Path):
    section = (REPO / "docs" / "routing.md").read_text(encoding="utf-8").split("### Other vendors")[1]
    shown = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0]
    rest = "tasks: {ask: {default: fast-small}}\ntiers: {pro: {}}\ntenants: {acme: pro}\n"
    routing = load(written(tmp_path, shown + rest))
    assert set(routing.deployments()) == {"azure/gpt-5-mini", "vllm/qwen3-8b"}

"""Embedding models and tasks in routing.yaml: what is read, and every mistake with its place and what is right."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.worker.job_runs import REPO
from worker.routing_file import EmbeddingLimits
from worker.routing_load import check, load

GOOD = """\
providers:
  openai: {dialect: openai, base_url: https://api.openai.com/v1, key_env: OPENAI_API_KEY}
  claude: {dialect: anthropic, base_url: https://api.anthropic.com, key_env: ANTHROPIC_API_KEY}
  google: {dialect: gemini, base_url: https://generativelanguage.googleapis.com, key_env: GEMINI_API_KEY}
aliases:
  small: [{provider: openai, model: gpt-6-luna, context_tokens: 1000, max_output_tokens: 100}]
  embed:
    - {provider: openai, model: e/Embed-3, kind: embedding, context_tokens: 512, dimensions: 8, min_dimensions: 2}
  other: [{provider: google, model: g-embed, kind: embedding, context_tokens: 512, dimensions: 8}]
tasks:
  ask: {default: small}
  find: {kind: embedding, default: embed, dimensions: 4, cache_ttl_s: 60}
tiers:
  free: {}
tenants:
  acme: free
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "routing.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_embedding_model_has_limits_of_its_own(tmp_path: Path):
    assert check(written(tmp_path, GOOD)) == []
    routing = load(tmp_path / "routing.yaml")
    (openai,), (google,) = routing.aliases["embed"], routing.aliases["other"]
    assert (openai.kind, openai.max_output_tokens) == ("embedding", 0)
    assert openai.embedding == EmbeddingLimits(8, 2, 2_048, "embed-3")
    assert google.embedding == EmbeddingLimits(8, 8, 100, "g-embed"), "Gemini takes 100 in one batch"
    assert (routing.tasks["find"].kind, routing.tasks["find"].dimensions) == ("embedding", 4)
    assert (routing.tasks["ask"].kind, routing.aliases["small"][0].embedding) == ("chat", None)


def test_the_shipped_task_makes_vectors_at_the_stated_prices():
    routing = load(REPO / "routing.yaml")
    task = routing.tasks["embed_documents"]
    openai, twin = routing.aliases[task.default]
    assert (task.kind, openai.embedding) == (
        "embedding",
        EmbeddingLimits(1536, 1, 2048, "text-embedding-3-small", 300_000),
    )
    assert twin.price is not None
    assert (twin.price.input, twin.price.output, twin.weight) == (Decimal("0.02"), 0, 0)


WRONG = [
    (
        "default: embed,",
        "default: small,",
        "routing.yaml:12:36: tasks.find.default: 'small' holds chat models and the task is an embedding: name an alias "
        "whose deployments have 'kind: embedding'",
    ),
    (
        "ask: {default: small}",
        "ask: {default: small, fallback: [embed]}",
        "routing.yaml:11:36: tasks.ask.fallback[0]: 'embed' holds embedding models: add 'kind: embedding' to the task, "
        "or name an alias of chat models",
    ),
    (
        "dimensions: 4,",
        "dimensions: 9,",
        "routing.yaml:12:55: tasks.find.dimensions: found '9', 'openai/e/Embed-3' gives from 2 to 8",
    ),
    (
        "default: embed,",
        "default: embed, max_output_tokens: 9,",
        "routing.yaml:12:62: tasks.find.max_output_tokens: an embedding has no words to limit: leave it out",
    ),
    (
        "dimensions: 4,",
        "requires_citations: true,",
        "routing.yaml:12:63: tasks.find.requires_citations: an embedding has no words to cite with: leave it out",
    ),
    (
        "ask: {default: small}",
        "ask: {default: small, dimensions: 4}",
        "routing.yaml:11:37: tasks.ask.dimensions: only vectors have dimensions: add 'kind: embedding' to the task",
    ),
    (
        "default: embed, dimensions: 4,",
        "default: embed, fallback: other,",
        "routing.yaml:12:9: tasks.find: vectors of 'google/g-embed' cannot be compared with those of "
        "'openai/e/Embed-3': keep to one model, or say that it is the same one by the same 'vector_space' in both",
    ),
    (
        "max_output_tokens: 100}",
        "max_output_tokens: 100, dimensions: 8}",
        "routing.yaml:6:107: aliases.small[0].dimensions: it is of embedding models: add 'kind: embedding', or leave "
        "it out",
    ),
    (
        "min_dimensions: 2}",
        "max_output_tokens: 2}",
        "routing.yaml:8:116: aliases.embed[0].max_output_tokens: an embedding has no such thing: leave it out",
    ),
    (
        "dimensions: 8, min_dimensions: 2}",
        "min_dimensions: 2}",
        "routing.yaml:8:7: aliases.embed[0]: 'dimensions' is missing: add it",
    ),
    (
        "min_dimensions: 2}",
        "min_dimensions: 9}",
        "routing.yaml:8:113: aliases.embed[0].min_dimensions: it is over dimensions (8): lower it",
    ),
    (
        "min_dimensions: 2}",
        "max_inputs: 4096}",
        "routing.yaml:8:109: aliases.embed[0].max_inputs: found '4096', write a whole number from 1 to 2048",
    ),
    (
        "min_dimensions: 2}",
        "price: {input: 1, output: 2}}",
        "routing.yaml:8:115: aliases.embed[0].price.output: unknown key: use one of input",
    ),
    (
        "{provider: openai, model: e/Embed-3",
        "{provider: claude, model: e/Embed-3",
        "routing.yaml:8:50: aliases.embed[0].kind: the anthropic dialect has no embeddings: use a provider of the "
        "openai or gemini dialect",
    ),
    (
        "    - {provider: openai, model: e",
        "    - {provider: openai, model: x, context_tokens: 9, max_output_tokens: 9}\n"
        "    - {provider: openai, model: e",
        "routing.yaml:9:7: aliases.embed[1]: 'openai/e/Embed-3' is one of the embedding models, and this alias begins "
        "with chat models: give it an alias of its own",
    ),
    (
        "free: {}",
        "free: {replace: {embed: small}}",
        "routing.yaml:14:27: tiers.free.replace.embed: 'small' holds chat models, 'embed' does not: name one of its "
        "kind",
    ),
    (
        "acme: free",
        "acme: {tier: free, replace: {small: embed}}",
        "routing.yaml:16:39: tenants.acme.replace.small: 'embed' holds embedding models, 'small' does not: name one of "
        "its kind",
    ),
    (
        "kind: embedding, default: embed",
        "kind: vectors, default: embed",
        "routing.yaml:12:16: tasks.find.kind: found 'vectors', write chat or embedding",
    ),
]


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG)
def test_a_wrong_embedding_is_refused_with_its_place_and_what_would_be_right(
    tmp_path: Path, old: str, new: str, sentence: str
):
    assert old in GOOD
    found = check(written(tmp_path, GOOD.replace(old, new, 1)))
    assert sentence in found


def test_the_last_resort_may_be_another_model(tmp_path: Path):
    text = GOOD.replace("dimensions: 8}]", "dimensions: 8, weight: 0}]")
    text = text.replace("default: embed, dimensions: 4", "default: embed, fallback: other")
    assert check(written(tmp_path, text)) == []
    same = GOOD.replace("dimensions: 8}]", "dimensions: 8, vector_space: embed-3}]")
    same = same.replace("default: embed, dimensions: 4", "default: embed, fallback: other")
    assert check(written(tmp_path, same)) == []


def test_the_seeds_own_notation_is_checked_too(tmp_path: Path):
    [fault] = check(written(tmp_path, '{"find": {"kind": "embedding", "default": "fast-small"}}'))
    assert "find.default: 'fast-small' holds chat models" in fault

"""Embedding models in routing.yaml: what a deployment with `kind: embedding` says beside the others."""

from __future__ import annotations

from typing import get_args

from producer_sdk.contract.job import MOST_DIMENSIONS, MOST_INPUTS
from worker.routing_file import Dialect, EmbeddingLimits, Kind, Provider
from worker.routing_load.yaml_nodes import Fields, Place

EMBEDDING_KEYS = ("dimensions", "min_dimensions", "max_inputs", "max_call_tokens", "vector_space")
CHAT_KEYS = ("max_output_tokens", "service_tier")
# Most inputs of one call, where routing.yaml does not say: Gemini takes no more in one batch.
_MOST_INPUTS: dict[Dialect, int] = {"gemini": 100}
_WITHOUT_EMBEDDINGS: tuple[Dialect, ...] = ("anthropic",)


def says_embedding(place: Place) -> bool:
    """Whether this mapping has `kind: embedding`, before it is read."""
    kind = place.entry("kind")
    return kind is not None and kind.node.value == "embedding"


def limits_of(fields: Fields, provider: Provider | None, model: str) -> EmbeddingLimits | None:
    """What the embedding model takes and gives; None for a chat model. Keys of the other kind are faults."""
    kind = fields.choice("kind", get_args(Kind)) or "chat"
    if kind == "chat":
        _misplaced(
            fields, EMBEDDING_KEYS, "it is of embedding models: add 'kind: embedding', or leave it out"
        )
        return None
    _misplaced(fields, CHAT_KEYS, "an embedding has no such thing: leave it out")
    if provider and provider.dialect in _WITHOUT_EMBEDDINGS:
        fields.entries["kind"].fault(
            f"the {provider.dialect} dialect has no embeddings: use a provider of the openai or gemini dialect"
        )
    dimensions = fields.whole("dimensions", high=MOST_DIMENSIONS) or 1
    shortest = fields.whole("min_dimensions", high=MOST_DIMENSIONS) or dimensions
    if shortest > dimensions:
        fields.entries["min_dimensions"].fault(f"it is over dimensions ({dimensions}): lower it")
    most = _MOST_INPUTS.get(provider.dialect, MOST_INPUTS) if provider else MOST_INPUTS
    return EmbeddingLimits(
        dimensions=dimensions,
        min_dimensions=shortest,
        max_inputs=fields.whole("max_inputs", high=MOST_INPUTS) or most,
        vector_space=fields.text("vector_space") or model.lower().rsplit("/", 1)[-1],
        max_call_tokens=fields.whole("max_call_tokens", high=100_000_000),
    )


def _misplaced(fields: Fields, names: tuple[str, ...], sentence: str) -> None:
    for name in names:
        if name in fields.entries:
            fields.entries[name].fault(sentence)

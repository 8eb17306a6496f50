"""Aliases in routing.yaml: deployments, each one model at one provider, and the strategy that orders them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

from worker.capabilities import taken_by
from worker.routing_file import Deployment, Dialect, Provider, Strategy, Tokenizer
from worker.routing_load.embeddings import EMBEDDING_KEYS, limits_of, says_embedding
from worker.routing_load.prices import price_of
from worker.routing_load.takes import capabilities_of
from worker.routing_load.yaml_nodes import Place

ALIAS_KEYS = ("strategy", "deployments")
DEPLOYMENT_KEYS = (
    "provider",
    "model",
    "context_tokens",
    "max_output_tokens",
    "weight",
    "price",
    "tokenizer",
    "service_tier",
    "answers_as",
    "concurrency",
    "capabilities",
    "kind",
    *EMBEDDING_KEYS,
)
# What a call may ask for. Anthropic calls its default tier `standard`, and takes no other tier by name.
SERVICE_TIERS: dict[Dialect, tuple[str, ...]] = {
    "openai": ("default", "flex", "priority", "fast"),
    "anthropic": ("standard_only",),
    "gemini": ("flex", "priority"),
}


@dataclass(frozen=True)
class Alias:
    """One alias: its deployments in the file's order, where each stands, and what orders them."""

    deployments: tuple[Deployment, ...] = ()
    places: tuple[Place, ...] = ()
    strategy: Strategy = "weighted"


def alias_of(place: Place, providers: dict[str, Provider]) -> Alias:
    """One alias: a list of deployments, or a mapping of those and a strategy."""
    if not place.is_mapping():
        return Alias(*_deployments(place, providers))
    fields = place.fields(ALIAS_KEYS, required=("deployments",))
    strategy: Strategy = fields.choice("strategy", get_args(Strategy)) or "weighted"
    if "deployments" not in fields.entries:
        return Alias(strategy=strategy)
    return Alias(*_deployments(fields.entries["deployments"], providers), strategy)


def _deployments(
    place: Place, providers: dict[str, Provider]
) -> tuple[tuple[Deployment, ...], tuple[Place, ...]]:
    items = place.items()
    deployments = tuple(_deployment(item, providers) for item in items)
    names = [deployment.name for deployment in deployments]
    for number, item in enumerate(items):
        if names[number] in names[:number] and "?" not in names[number]:
            item.fault(f"'{names[number]}' stands twice in this alias: remove one, or raise its weight")
    if not items and place.is_list():
        place.fault("an alias needs at least one deployment")
    return deployments, tuple(items)


def _deployment(place: Place, providers: dict[str, Provider]) -> Deployment:
    makes_vectors = says_embedding(place)
    required = ("provider", "model", "context_tokens", "dimensions" if makes_vectors else "max_output_tokens")
    fields = place.fields(DEPLOYMENT_KEYS, required=required)
    at = fields.entries.get("provider")
    provider = providers.get(at.name_of(providers, "provider") if at else "")
    model = fields.text("model") or "?"
    context_tokens = fields.whole("context_tokens", high=100_000_000) or 1
    embedding = limits_of(fields, provider, model)
    most = fields.whole("max_output_tokens", high=100_000_000) or 1
    max_output_tokens = 0 if embedding else most
    if "max_output_tokens" in fields.entries and max_output_tokens > context_tokens:
        fields.entries["max_output_tokens"].fault(f"it is over context_tokens ({context_tokens}): lower it")
    weight = fields.whole("weight", low=0, high=1_000_000)
    deployment = Deployment(
        name=f"{provider.name if provider else '?'}/{model}",
        provider=provider or Provider("?", "openai", ""),
        model=model,
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
        weight=1 if weight is None else weight,
        price=price_of(fields.entries["price"], makes_vectors=makes_vectors)
        if "price" in fields.entries
        else None,
        tokenizer=fields.choice("tokenizer", get_args(Tokenizer)),
        service_tier=fields.choice("service_tier", SERVICE_TIERS[provider.dialect]) if provider else None,
        answers_as=_texts(fields.entries.get("answers_as")),
        capabilities=capabilities_of(fields),
        embedding=embedding,
        concurrency=fields.whole("concurrency", high=1_000_000),
    )
    if deployment.service_tier and "service_tier" not in taken_by(deployment):
        fields.entries["service_tier"].fault("its capabilities say that it takes none: remove one of them")
    return deployment


def _texts(place: Place | None) -> tuple[str, ...]:
    if place is None:
        return ()
    return (place.text(),) if place.is_scalar() else tuple(item.text() for item in place.items())


def check_same_everywhere(aliases: Iterable[Alias]) -> None:
    """A deployment is one thing: only its weight may differ from alias to alias."""
    first: dict[str, Deployment] = {}
    for alias in aliases:
        for item, deployment in zip(alias.places, alias.deployments, strict=True):
            known = first.setdefault(deployment.name, deployment)
            if "?" not in deployment.name and replace(known, weight=deployment.weight) != deployment:
                item.fault(
                    f"'{deployment.name}' has other limits or prices in another alias: state the same ones"
                )

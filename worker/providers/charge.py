"""What an answer is charged: by the model and the service tier that answered, never less than they may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from producer_sdk.contract import Usage
from worker.job_run import Attempt
from worker.providers.reply import Reply
from worker.rate_card import DEFAULT_TIER, RateCard, is_dated_name
from worker.routing_file import Deployment

# What other providers call it when nothing was asked for: Anthropic, Groq.
_DEFAULT_TIERS = ("default", "standard", "on_demand")
MODEL_UNKNOWN = "model_unknown"
TIER_UNKNOWN = "service_tier_unknown"


@dataclass(frozen=True)
class Charge:
    """What an answer costs, by which card, and why that is only a bound (`flag`), if it is."""

    cost_pico: int
    saved_pico: int
    card_id: str
    flag: str | None = None


def charge(attempt: Attempt, reply: Reply, *, cards: Mapping[str, RateCard], answered_at: datetime) -> Charge:
    """The charge of a complete answer. What cannot be priced costs what was reserved: a bound, never a guess.

    A call that spans a change of price costs the dearer of the two.
    """
    call = attempt.call
    if reply.usage is None:
        return Charge(call.highest_pico, 0, call.card.id)
    card, tier = _answering(attempt, reply.model, cards), _tier(reply.service_tier)
    if call.card.is_free and card in (None, call.card):
        return Charge(0, 0, call.card.id)
    if card is None or (tier or call.card.asks) not in card.tiers:
        flag = MODEL_UNKNOWN if card is None else TIER_UNKNOWN
        return Charge(call.highest_pico, 0, call.card.id, flag)
    if card.asks != call.card.asks:
        card = replace(card, asks=call.card.asks)
    times = (attempt.created_at, answered_at)
    return _dearest(card, reply.usage, tier, times, long_write_tokens=reply.long_write_tokens)


def _dearest(
    card: RateCard, usage: Usage, tier: str | None, times: Sequence[datetime], *, long_write_tokens: int
) -> Charge:
    found = [
        card.rates_for(usage, at=at, service_tier=tier, long_write_tokens=long_write_tokens) for at in times
    ]
    rates = max(found, key=lambda one: one.cost(usage, long_write_tokens))
    return Charge(rates.cost(usage, long_write_tokens), rates.saved(usage), card.id)


def _answering(attempt: Attempt, model: str, cards: Mapping[str, RateCard]) -> RateCard | None:
    """The card of the model that answered; None when routing.yaml has no such model of this provider.

    A provider that names no model has answered with the one that was asked for. Names as they stand come before names
    with a date, the deployment asked for before its provider's others.
    """
    asked, card = attempt.call.deployment, attempt.call.card
    said = model.lower()
    if not said or _is_named(said, asked):
        return card
    others = [
        (one, cards[name])
        for name, one in attempt.job_run.routing.deployments().items()
        if one.provider.name == asked.provider.name and name in cards
    ]
    for other, its_card in others:
        if _is_named(said, other):
            return its_card
    for other, its_card in [(asked, card), *others]:
        if _is_dated(said, other) and said not in its_card.other_models:
            return its_card
    return None


def _is_named(said: str, deployment: Deployment) -> bool:
    return said in {name.lower() for name in (deployment.model, *deployment.answers_as)}


def _is_dated(said: str, deployment: Deployment) -> bool:
    return any(is_dated_name(said, name) for name in (deployment.model, *deployment.answers_as))


def _tier(stated: str | None) -> str | None:
    """The tier as rate cards name it; None: the provider does not say."""
    said = (stated or "auto").lower()
    return None if said == "auto" else DEFAULT_TIER if said in _DEFAULT_TIERS else said

"""The prices of routing.yaml: a deployment's `price`, by size of the input and by service tier."""

from __future__ import annotations

import re
from decimal import Decimal

from worker.rate_card import DEFAULT_TIER
from worker.routing_file import Price
from worker.routing_load.yaml_nodes import Fields, Place

RATE_KEYS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning")
TIER_KEYS = (*RATE_KEYS, "above")
PRICE_KEYS = (*TIER_KEYS, "service_tiers", "free")
FREE = Price(Decimal(0), Decimal(0), Decimal(0), Decimal(0), free=True)
_TOKENS = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_TIER_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


def price_of(place: Place, *, makes_vectors: bool = False) -> Price:
    """The price that stands here; each mistake is a fault of its own. Vectors are paid by their input alone."""
    if "free" in place.names():
        return _free(place)
    if makes_vectors:
        return _priced(place.fields(("input",), required=("input",)), {})
    fields = place.fields(PRICE_KEYS, required=("input", "output"))
    tiers = {name: _tier(name, at) for name, at in fields.entries_of("service_tiers").items()}
    return _priced(fields, tiers)


def _free(place: Place) -> Price:
    fields = place.fields(PRICE_KEYS)
    if not fields.truth("free", default=False) or len(fields.entries) > 1:
        place.fault("write either 'free: true' alone, or amounts without 'free'")
    return FREE


def _tier(name: str, place: Place) -> Price:
    if name == DEFAULT_TIER or not _TIER_NAME.fullmatch(name):
        place.fault(
            f"'{name}' is no tier to price here: write its name as the provider answers it, for example flex, or "
            "batch; the default tier's amounts stand in 'price' itself"
        )
    return _priced(place.fields(TIER_KEYS, required=("input", "output")), {})


def _priced(fields: Fields, tiers: dict[str, Price]) -> Price:
    above = {}
    for tokens, place in fields.entries_of("above").items():
        if not _TOKENS.fullmatch(tokens):
            place.fault(f"'{tokens}' is no number of input tokens: write one like 200000")
            continue
        above[int(tokens)] = _priced(place.fields(RATE_KEYS, required=("input", "output")), {})
    return Price(
        input=_amount(fields, "input") or Decimal(0),
        output=_amount(fields, "output") or Decimal(0),
        cache_read=_amount(fields, "cache_read"),
        cache_write=_amount(fields, "cache_write"),
        cache_write_1h=_amount(fields, "cache_write_1h"),
        reasoning=_amount(fields, "reasoning"),
        above=above,
        service_tiers=tiers,
    )


def _amount(fields: Fields, name: str) -> Decimal | None:
    faults = fields.place.faults.found
    before = len(faults)
    amount = fields.amount(name)
    if amount == 0 and len(faults) == before:
        fields.entries[name].fault(
            "a price of 0 is not taken: if nothing is ever charged write 'price: {free: true}', else the smallest "
            "price, 0.000001"
        )
    return amount

"""routing.yaml as a JSON Schema, for editors: what a key means, and what may stand there.

A new key is one line in its section's table below. `docs/routing.schema.json` is this schema as it is shipped. What a
schema cannot say (that a name exists, that nothing stands twice) `fairlane routing check` says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from producer_sdk.contract.control import CONTROL_PREFIX
from producer_sdk.contract.job import MOST_DIMENSIONS, MOST_INPUTS, TaskName, TenantName
from worker.capability_rows import CAPABILITIES
from worker.rate_card import DEFAULT_TIER
from worker.routing_file import Action, Dialect, Kind, Strategy, Tokenizer
from worker.routing_load.aliases import ALIAS_KEYS, DEPLOYMENT_KEYS, SERVICE_TIERS
from worker.routing_load.budgets import BUDGET_KEYS
from worker.routing_load.embeddings import CHAT_KEYS, EMBEDDING_KEYS
from worker.routing_load.file import SECTIONS
from worker.routing_load.prices import PRICE_KEYS, RATE_KEYS, TIER_KEYS
from worker.routing_load.providers import KEY_KEYS, LOCAL_URL_ENV, PROVIDER_KEYS
from worker.routing_load.tasks import TASK_KEYS
from worker.routing_load.tiers import LIMIT_KEYS, SHARE_KEYS, TENANT_KEYS

Schema = dict[str, Any]
_TENANT_KEYS = (*TENANT_KEYS, *LIMIT_KEYS)


def text(said: str, **more: Any) -> Schema:
    """A word or sentence."""
    return {"description": said, "type": "string", "minLength": 1} | more


def whole(said: str, *, low: int = 1, high: int = 1_000_000_000) -> Schema:
    """A whole number between two bounds."""
    return {"description": said, "type": "integer", "minimum": low, "maximum": high}


def number(said: str, *, low: float, high: int) -> Schema:
    """A number between two bounds."""
    return {"description": said, "type": "number", "minimum": low, "maximum": high}


def usd(said: str) -> Schema:
    """An amount of money, zero or more."""
    return number(f"USD. {said}", low=0, high=1_000_000_000)


def rate(said: str) -> Schema:
    """A price above 0."""
    return {
        "description": f"USD per million tokens: {said}",
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1_000_000_000,
    }


def truth(said: str) -> Schema:
    """True or false."""
    return {"description": said, "type": "boolean"}


def choice(said: str, choices: Collection[str]) -> Schema:
    """One of several words."""
    return {"description": said, "enum": list(choices)}


def one_or_more(said: str, item: Schema) -> Schema:
    """One of these, or a list of them."""
    return {"description": said, "anyOf": [item, {"type": "array", "items": item}]}


def named(said: str, value: str, **names: Any) -> Schema:
    """A mapping of names to what `value` defines; `names` is what they must be like."""
    more = {"propertyNames": names} if names else {}
    return {
        "description": said,
        "type": "object",
        "additionalProperties": {"$ref": f"#/$defs/{value}"},
    } | more


def mapping(
    said: str, keys: Collection[str], table: Mapping[str, Schema], required: Collection[str] = ()
) -> Schema:
    """A mapping with the keys that the loader knows; one that the table does not describe may be anything."""
    properties = {key: table.get(key, {}) for key in keys}
    schema = {"description": said, "type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


_NAME: Schema = {"type": "string", "minLength": 1}
_MODEL: Schema = {"type": ["string", "number"]}  # 4.1 is a number to YAML
_PERCENT: Schema = {"type": "integer", "minimum": 1, "maximum": 100}
_ALIASES = {"type": "object", "additionalProperties": _NAME}
_TAKES: Schema = {
    "description": "What it takes (true) or refuses (false), against the table in docs/routing.md.",
    "type": "object",
    "properties": {name: {"type": "boolean"} for name in CAPABILITIES},
    "additionalProperties": False,
}
_URL = r"^https?://([^\s/@\\?#\[\]:]+|\[[0-9A-Fa-f:.%]+\])(:[0-9]{1,5})?(/[^\s@]*)?$"

BUDGET: Mapping[str, Schema] = {
    "daily_budget_usd": usd("The most that may be spent a day."),
    "monthly_budget_usd": usd("The most that may be spent a month."),
    "soft_limit": one_or_more("Percentages of a limit at which operators are told.", _PERCENT),
}
KEY: Mapping[str, Schema] = {
    "key_env": text("The environment variable that holds the key.", pattern="^[A-Z][A-Z0-9_]*$"),
    "key_file": text("The file that holds the key; it is read anew when it changes.", pattern="^/"),
}
PROVIDER: Mapping[str, Schema] = {
    "dialect": choice("The wire format of its API.", get_args(Dialect)),
    "base_url": text("Where calls go.", pattern=_URL),
    "base_url_env": choice("This provider is whatever runs at that address.", (LOCAL_URL_ENV,)),
    **KEY,
    "capabilities": _TAKES,
    "allow_link_local": truth("Its address may be link-local or a cloud's metadata service."),
    **BUDGET,
}
RATES: Mapping[str, Schema] = {
    "input": rate("input."),
    "output": rate("output."),
    "cache_read": rate("what is read from the provider's cache. Left out: as input."),
    "cache_write": rate("what is written to it. Left out: as input, 1.25 times it in the Anthropic dialect."),
    "cache_write_1h": rate("what is written to it for an hour. Left out: no prefix is."),
    "reasoning": rate("thoughts. Left out: as output."),
}
PRICE: Mapping[str, Schema] = {
    **RATES,
    "above": named(
        "What a whole request costs once its input has more tokens than this.",
        "rates",
        pattern="^[1-9][0-9]{0,8}$",
    ),
    "service_tiers": named(
        "The prices of other service tiers, by the name that answers carry; batch: the batch API.",
        "tier_price",
        pattern="^[a-z][a-z0-9_]{0,31}$",
        **{"not": {"const": DEFAULT_TIER}},
    ),
    "free": truth("true, alone: nothing is ever charged."),
}
_DEPLOYMENTS: Schema = {
    "description": "What it may be served by.",
    "type": "array",
    "minItems": 1,
    "items": {"$ref": "#/$defs/deployment"},
}
ALIAS: Mapping[str, Schema] = {
    "strategy": choice("What orders them for a job, weighted if left out.", get_args(Strategy)),
    "deployments": _DEPLOYMENTS,
}
DEPLOYMENT: Mapping[str, Schema] = {
    "provider": text("A provider of this file."),
    "model": {"description": "The model, by the provider's name for it."} | _MODEL,
    "context_tokens": whole("Its window: what is surely longer is left out.", high=100_000_000),
    "max_output_tokens": whole("The longest answer that it writes.", high=100_000_000),
    "weight": whole("Its share of first tries, 1 if left out. 0: the last resort.", low=0, high=1_000_000),
    "price": {"description": "What it costs. Left out: what genai-prices says.", "type": "object"},
    "tokenizer": choice("The model's vocabulary. Left out: by its name.", get_args(Tokenizer)),
    "service_tier": choice(
        "What its calls ask for. Left out: nothing.",
        tuple(dict.fromkeys(tier for tiers in SERVICE_TIERS.values() for tier in tiers)),
    ),
    "capabilities": _TAKES,
    "concurrency": whole(
        "Calls at once, of the whole fleet. Left out: what it has shown to take.", high=1_000_000
    ),
    "kind": choice("What it is called for, chat if left out.", get_args(Kind)),
    "dimensions": whole("How long its vectors are where nothing is asked for.", high=MOST_DIMENSIONS),
    "min_dimensions": whole("The shortest vectors that it makes.", high=MOST_DIMENSIONS),
    "max_inputs": whole("The most inputs of one call.", high=MOST_INPUTS),
    "max_call_tokens": whole("The most tokens of one call's inputs.", high=100_000_000),
    "vector_space": text("Whose vectors its own can be compared with. Left out: its model's."),
    "answers_as": one_or_more("Other names that its answers carry as their model.", _MODEL),
}
_OF_ITS_KIND: Schema = {
    "if": {"properties": {"kind": {"const": "embedding"}}, "required": ["kind"]},
    "then": {
        "required": ["dimensions"],
        "properties": {"price": {"$ref": "#/$defs/input_price"}} | dict.fromkeys(CHAT_KEYS, False),
    },
    "else": {
        "required": ["max_output_tokens"],
        "properties": {"price": {"$ref": "#/$defs/price"}} | dict.fromkeys(EMBEDDING_KEYS, False),
    },
}
TASK: Mapping[str, Schema] = {
    "default": text("The alias that is tried first."),
    "fallback": one_or_more("Aliases that are tried after it.", _NAME),
    "max_latency_ms": whole("How long the whole chain may take.", high=86_400_000),
    "hedge_after_ms": whole(
        "A call that has said nothing for so long gets a second one beside it. Left out: never.",
        high=86_400_000,
    ),
    "max_cost_usd": usd("The most that the whole chain may cost."),
    "requires_citations": truth("An answer must quote the job's documents, and its quotes are checked."),
    "max_output_tokens": whole("The longest answer.", high=100_000_000),
    "kind": choice("What its jobs are, chat if left out.", get_args(Kind)),
    "dimensions": whole("How long its vectors are where the job does not say.", high=MOST_DIMENSIONS),
    "cache_ttl_s": whole(
        "For how many seconds an answer is given again to the same question. 0: never.",
        low=0,
        high=31_536_000,
    ),
}
SHARE: Mapping[str, Schema] = {
    "concurrency": whole("Jobs that run at once."),
    "requests_per_min": whole("Jobs that begin in a minute."),
    "tokens_per_min": whole("Tokens that providers are asked for in a minute."),
}
LIMIT: Mapping[str, Schema] = {
    "allow": one_or_more("The only aliases that may be used. Left out: all but those of deny.", _NAME),
    "deny": one_or_more("Aliases that may not be used.", _NAME),
    "replace": {"description": "Alias to the one that is used in its place."} | _ALIASES,
    "max_output_tokens": whole("The longest answer, 1024 if left out.", high=100_000_000),
    **BUDGET,
    "run_budget_usd": usd("The most that an agent run may cost, with the runs below it."),
    "run_max_calls": whole("Jobs that an agent run may have, with the runs below it."),
    "run_max_depth": whole("How many runs a job may be below the first one.", low=0, high=1_000),
    "run_max_seconds": whole("How long after a run's first job another one may begin.", high=31_536_000),
    "run_max_repeats": whole("How often a run may ask the same.", high=1_000_000),
    "features": named("Budgets of single features, inside the tenant's.", "budget"),
    "weight": number("The share of tokens while others wait too, 1 if left out.", low=0.01, high=1_000),
    **SHARE,
    "burst_s": number(
        "For how many seconds an unused allowance is saved up, 6 if left out.", low=0.1, high=3_600
    ),
    "max_pending": whole("Jobs that may wait; the next one is refused as queue_full.", high=100_000_000),
    "tasks": named("Limits of single tasks, beside the tenant's own.", "share"),
    "retries_per_min": whole("Retries that are always there, 10 if left out.", low=0, high=1_000_000),
    "unsafe_tool_result": choice("What becomes of a job with an unsafe tool result.", get_args(Action)),
    "unsafe_document": choice("What becomes of a job with an unsafe document.", get_args(Action)),
}
TENANT: Mapping[str, Schema] = {
    "tier": text("A tier of this file."),
    "keys": named("Its own keys, by provider: what they pay for costs it nothing of ours.", "key"),
    "own_keys_only": truth("It is called with its own keys, and nowhere else."),
    "zone": text("The time zone in which its day begins, such as Europe/Berlin. UTC if left out."),
    **LIMIT,
}
ROOT: Mapping[str, Schema] = {
    "providers": named("Where calls go, in which dialect, with whose key.", "provider"),
    "aliases": named("Names for lists of weighted deployments.", "alias"),
    "tasks": named(
        "What jobs ask for: aliases to try in order, and limits over the whole chain.",
        "task",
        **TypeAdapter(TaskName).json_schema(),
        **{"not": {"pattern": "^" + CONTROL_PREFIX.replace(".", r"\.")}},
    ),
    "tiers": named("What tenants may do, and how much.", "tier"),
    "tenants": named(
        "Who may submit jobs: a tier's name, or a tier and limits of its own.",
        "tenant",
        **TypeAdapter(TenantName).json_schema(),
    ),
    "default_tier": text("The tier of every tenant that is not declared. Left out: they are refused."),
    "fleet": {"$ref": "#/$defs/budget"},
}
# What the loader knows, and where it is described.
TABLES: Mapping[str, tuple[tuple[str, ...], Mapping[str, Schema]]] = {
    "ROOT": (SECTIONS, ROOT),
    "PROVIDER": (PROVIDER_KEYS, PROVIDER),
    "ALIAS": (ALIAS_KEYS, ALIAS),
    "DEPLOYMENT": (DEPLOYMENT_KEYS, DEPLOYMENT),
    "PRICE": (PRICE_KEYS, PRICE),
    "TASK": (TASK_KEYS, TASK),
    "TENANT": (_TENANT_KEYS, TENANT),
    "BUDGET": (BUDGET_KEYS, BUDGET),
    "SHARE": (SHARE_KEYS, SHARE),
    "KEY": (KEY_KEYS, KEY),
}


def routing_schema() -> Schema:
    """The whole schema, of draft 2020-12."""
    whole_file = mapping(
        "Fairlane's control plane. Reference: docs/routing.md.",
        SECTIONS,
        ROOT,
        required=("providers", "aliases", "tasks", "tiers"),
    )
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "routing.yaml"}
    any_tenant = {"anyOf": [{"required": ["tenants"]}, {"required": ["default_tier"]}]}
    return about | whole_file | any_tenant | {"$defs": _definitions()}


def _definitions() -> Schema:
    amounts = ("input", "output")
    is_free = {"required": ["free"]}
    return {
        "provider": mapping("A provider.", PROVIDER_KEYS, PROVIDER, required=("dialect",))
        | {"anyOf": [{"required": ["base_url"]}, {"required": ["base_url_env"]}]}
        | {"not": {"required": list(KEY_KEYS)}},
        "alias": {
            "anyOf": [
                _DEPLOYMENTS,
                mapping("Deployments and their strategy.", ALIAS_KEYS, ALIAS, ("deployments",)),
            ]
        },
        "deployment": mapping(
            "A model at a provider.", DEPLOYMENT_KEYS, DEPLOYMENT, ("provider", "model", "context_tokens")
        )
        | _OF_ITS_KIND,
        "input_price": mapping("What its input costs.", PRICE_KEYS, PRICE)
        | {"oneOf": [{"required": ["input"]}, {"required": ["free"]}], "maxProperties": 1},
        "price": mapping("What it costs. Left out: what genai-prices says.", PRICE_KEYS, PRICE)
        | {
            "if": is_free,
            "then": {"properties": {"free": {"const": True}}, "maxProperties": 1},
            "else": {"required": list(amounts)},
        },
        "tier_price": mapping("The prices of a service tier.", TIER_KEYS, PRICE, required=amounts),
        "rates": mapping("The prices of a request of this size.", RATE_KEYS, RATES, required=amounts),
        "task": mapping("A task.", TASK_KEYS, TASK, required=("default",))
        | {
            "if": {"properties": {"kind": {"const": "embedding"}}, "required": ["kind"]},
            "then": {"properties": dict.fromkeys(("max_output_tokens", "requires_citations"), False)},
            "else": {"properties": {"dimensions": False}},
        },
        "tier": mapping("A tier.", LIMIT_KEYS, LIMIT),
        "tenant": {
            "anyOf": [
                _NAME,
                mapping("A tenant's tier, and limits of its own.", _TENANT_KEYS, TENANT, ("tier",))
                | {
                    "if": {"properties": {"own_keys_only": {"const": True}}, "required": ["own_keys_only"]},
                    "then": {"required": ["keys"]},
                },
            ]
        },
        "budget": mapping("Budgets.", BUDGET_KEYS, BUDGET),
        "share": mapping("Limits of a task.", SHARE_KEYS, SHARE),
        "key": mapping("Where a key is.", KEY_KEYS, KEY) | {"minProperties": 1, "maxProperties": 1},
    }

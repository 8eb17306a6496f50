"""routing.yaml as values: providers, aliases, tasks, tiers and tenants, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

Dialect = Literal["openai", "anthropic", "gemini"]
Kind = Literal["chat", "embedding"]
Action = Literal["block", "flag"]
Strategy = Literal["ordered", "weighted", "cheapest", "fastest"]
Tokenizer = Literal["o200k", "cl100k", "qwen3", "bytes"]


@dataclass(frozen=True)
class Budget:
    """The most that may be spent in a window. None: no limit. Operators are told at `soft_limit`'s percentages."""

    daily_usd: Decimal | None = None
    monthly_usd: Decimal | None = None
    soft_limit: tuple[int, ...] = ()


NO_BUDGET = Budget()


@dataclass(frozen=True)
class Price:
    """USD per million tokens, as routing.yaml states it. None: not stated.

    `above` has what a whole request costs once its input has more tokens than the key; `service_tiers` the prices of
    other tiers than the default one, `batch` for the provider's batch API. `free`: 0 on purpose.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    above: Mapping[int, Price] = field(default_factory=dict)
    service_tiers: Mapping[str, Price] = field(default_factory=dict)
    free: bool = False


@dataclass(frozen=True)
class KeySource:
    """Where a key is: an environment variable, or a file that holds nothing else. Never the key itself."""

    env: str | None = None
    file: Path | None = None

    @property
    def named(self) -> str:
        """What stands for the key in sentences."""
        return self.env or str(self.file)


@dataclass(frozen=True)
class Provider:
    """Where calls go. Neither `key_env` nor `key_file`: no key is needed. `base_url_env` overrides `base_url` when set.

    `budget` is what all tenants together may spend there. `allow_link_local`: it may be at an address where no
    provider usually is, see addresses. `capabilities`: what it takes or refuses, against the table in capabilities.
    """

    name: str
    dialect: Dialect
    base_url: str
    key_env: str | None = None
    base_url_env: str | None = None
    budget: Budget = NO_BUDGET
    allow_link_local: bool = False
    key_file: Path | None = None
    capabilities: Mapping[str, bool] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class EmbeddingLimits:
    """What an embedding model takes and gives. `dimensions` is the length of its vectors where nothing is asked for.

    `min_dimensions`: the shortest that it can be asked for. `max_inputs` and `max_call_tokens` are of one call, None:
    no limit. Vectors can be compared only inside one `vector_space`.
    """

    dimensions: int
    min_dimensions: int
    max_inputs: int
    vector_space: str
    max_call_tokens: int | None = None


@dataclass(frozen=True)
class Deployment:
    """One model at one provider; `name` is provider/model. `price` None: genai-prices knows it, or nobody.

    `tokenizer` None: by the model's name. `service_tier` is what its calls ask for; `answers_as` are other names by
    which it answers; `capabilities` go before its provider's. `embedding`: it makes vectors, and `context_tokens` is
    the most of one input. `concurrency`: the most calls at once, of the whole fleet; None: what it has shown to take.
    """

    name: str
    provider: Provider
    model: str
    context_tokens: int
    max_output_tokens: int
    weight: int = 1
    price: Price | None = None
    tokenizer: Tokenizer | None = None
    service_tier: str | None = None
    answers_as: tuple[str, ...] = ()
    capabilities: Mapping[str, bool] = field(default_factory=dict, hash=False)
    embedding: EmbeddingLimits | None = None
    concurrency: int | None = None

    @property
    def kind(self) -> Kind:
        """What it is called for."""
        return "embedding" if self.embedding else "chat"


@dataclass(frozen=True)
class TaskRule:
    """A task in the seed's words: aliases to try in order, and its limits over the whole chain."""

    name: str
    default: str
    fallback: tuple[str, ...] = ()
    max_latency_ms: int | None = None
    max_cost_usd: Decimal | None = None
    requires_citations: bool = False
    max_output_tokens: int | None = None
    cache_ttl_s: int = 0
    hedge_after_ms: int | None = None
    kind: Kind = "chat"
    dimensions: int | None = None


@dataclass(frozen=True)
class TaskShare:
    """What a tenant's jobs of one task may take of its limits. None: no limit of their own."""

    concurrency: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None


@dataclass(frozen=True)
class Tier:
    """What tenants of this tier may do. Empty `allow` allows every alias that `deny` does not name.

    `weight` is the share of tokens while others wait too; an unused allowance is saved up for `burst_s` seconds.
    """

    name: str
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    replace: dict[str, str] = field(default_factory=dict)
    max_output_tokens: int = 1024
    daily_budget_usd: Decimal | None = None
    monthly_budget_usd: Decimal | None = None
    run_budget_usd: Decimal | None = None
    run_max_calls: int | None = None
    run_max_depth: int | None = None
    run_max_seconds: int | None = None
    run_max_repeats: int | None = None
    soft_limit: tuple[int, ...] = ()
    features: dict[str, Budget] = field(default_factory=dict)
    weight: Decimal = Decimal(1)
    concurrency: int = 20
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    burst_s: Decimal = Decimal(6)
    max_pending: int | None = None
    tasks: dict[str, TaskShare] = field(default_factory=dict)
    retries_per_min: int = 10
    unsafe_tool_result: Action = "block"
    unsafe_document: Action = "block"


@dataclass(frozen=True)
class Tenant:
    """One tenant: its tier with the tenant's own overrides applied, its zone for windows, its own providers' keys.

    `own_keys_only`: it is never called with a key of the fleet's, nor where no key is needed.
    """

    name: str
    tier: Tier
    zone: str = "UTC"
    keys: Mapping[str, KeySource] = field(default_factory=dict)
    own_keys_only: bool = False


@dataclass(frozen=True)
class RoutingFile:
    """The whole control plane at one version (a hash of its content)."""

    version: str
    providers: dict[str, Provider]
    aliases: dict[str, tuple[Deployment, ...]]
    tasks: dict[str, TaskRule]
    tiers: dict[str, Tier]
    tenants: dict[str, Tenant]
    default_tier: str | None = None
    fleet: Budget = NO_BUDGET
    strategies: dict[str, Strategy] = field(default_factory=dict)  # of an alias that is not `weighted`

    def tenant(self, name: str) -> Tenant | None:
        """The tenant as declared, or under the default tier where there is one, else None."""
        declared = self.tenants.get(name)
        if declared or self.default_tier is None:
            return declared
        return Tenant(name, self.tiers[self.default_tier])

    def deployments(self) -> dict[str, Deployment]:
        """Every deployment of every alias, by name."""
        return {d.name: d for alias in self.aliases.values() for d in alias}

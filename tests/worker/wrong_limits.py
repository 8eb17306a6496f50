"""Faults in the tiers and tenants of a routing.yaml, each with its sentence."""

from __future__ import annotations

from tests.worker.good_routing_file import GOOD, replaced

WRONG_LIMITS: list[tuple[str, str]] = [
    (
        replaced("daily_budget_usd: 0.5", "run_max_calls: 0"),
        "routing.yaml:16:40: tiers.free.run_max_calls: found '0', write a whole number from 1 to 1000000000",
    ),
    (
        replaced("daily_budget_usd: 0.5", "run_max_depth: 1001"),
        "routing.yaml:16:40: tiers.free.run_max_depth: found '1001', write a whole number from 0 to 1000",
    ),
    (
        replaced("daily_budget_usd: 0.5", "run_max_seconds: 1.5"),
        "routing.yaml:16:42: tiers.free.run_max_seconds: found '1.5', write a whole number from 1 to 31536000",
    ),
    (
        replaced("concurrency: 7", "run_max_repeats: many"),
        "routing.yaml:19:41: tenants.globex.run_max_repeats: found 'many', write a whole number from 1 to 1000000",
    ),
    (
        replaced("daily_budget_usd: 0.5", "daily_budget_usd: 0.5, soft_limit: [80, 101]"),
        "routing.yaml:16:65: tiers.free.soft_limit[1]: found '101', write a whole number from 1 to 100",
    ),
    (
        replaced("acme: free", "acme: fre"),
        "routing.yaml:18:9: tenants.acme: there is no tier 'fre', did you mean 'free'?",
    ),
    (
        replaced("{tier: free, concurrency", "{tier: pro, concurrency"),
        "routing.yaml:19:18: tenants.globex.tier: there is no tier 'pro': use one of free",
    ),
    (
        replaced("deny: [large]", "deny: [larg]"),
        "routing.yaml:16:17: tiers.free.deny[0]: there is no alias 'larg', did you mean 'large'?",
    ),
    (
        replaced("deny: [large]", "allow: [large], deny: [large]"),
        "routing.yaml:16:9: tiers.free: 'large' is both allowed and denied: remove it from one list",
    ),
    (
        replaced("deny: [large]", "deny: [large], replace: {small: large}"),
        "routing.yaml:16:9: tiers.free: 'small' is replaced by 'large', which this tier does not allow",
    ),
    (
        replaced("deny: [large]", "replace: {smll: large}"),
        "routing.yaml:16:26: tiers.free.replace.smll: there is no alias 'smll', did you mean 'small'?",
    ),
    (
        replaced("concurrency: 7", "keys: {openay: {key_env: ACME_KEY}}"),
        "routing.yaml:19:39: tenants.globex.keys.openay: there is no provider 'openay', did you mean 'openai'?",
    ),
    (
        replaced("concurrency: 7", "keys: {openai: sk-123}"),
        "routing.yaml:19:39: tenants.globex.keys.openai: write {key_env: VARIABLE} or {key_file: /path}, never the key "
        "itself",
    ),
    (
        replaced("concurrency: 7", "keys: sk-123"),
        "routing.yaml:19:30: tenants.globex.keys: write a mapping of providers, each to {key_env: VARIABLE} or "
        "{key_file: /path}, never the key itself",
    ),
    (
        replaced("concurrency: 7", "keys: {openai: {key_env: acme}}"),
        "routing.yaml:19:49: tenants.globex.keys.openai.key_env: write an environment variable's name, for example "
        "OPENAI_API_KEY, never the value itself",
    ),
    (
        replaced("concurrency: 7", "own_keys_only: true"),
        "routing.yaml:19:39: tenants.globex.own_keys_only: the tenant has no key of its own: "
        "add 'keys', or remove this",
    ),
    (
        replaced("output: 2}", "output: 2, service_tiers: {default: {input: 1, output: 2}}}"),
        "routing.yaml:7:146: aliases.small[1].price.service_tiers.default: 'default' is no tier to price here: write "
        "its name as the provider answers it, for example flex, or batch; the default tier's amounts stand in 'price' "
        "itself",
    ),
    (
        replaced("output: 2}", "output: 2, service_tiers: {flex: {input: 1, output: 2, free: true}}}"),
        "routing.yaml:7:165: aliases.small[1].price.service_tiers.flex.free: unknown key: use one of above, "
        "cache_read, cache_write, cache_write_1h, input, output, reasoning",
    ),
    (
        replaced("zone: Europe/Berlin", "zone: Europe/Berlinn"),
        "routing.yaml:19:46: tenants.globex.zone: there is no time zone 'Europe/Berlinn', write one like Europe/Berlin "
        "or UTC",
    ),
    (
        replaced("  acme: free", "  'a cme': free"),
        "routing.yaml:18:12: tenants.a cme: no job can name a tenant 'a cme': start with a letter and use letters, "
        "digits and _ . -",
    ),
    (
        replaced("daily_budget_usd: 0.5", "unsafe_document: allow"),
        "routing.yaml:16:42: tiers.free.unsafe_document: found 'allow', write block or flag",
    ),
    (
        replaced("tenants:\n  acme: free\n  globex: {tier: free, concurrency: 7, zone: Europe/Berlin}\n", ""),
        "routing.yaml:1:1: there is no tenant: add 'tenants', or a 'default_tier' for those not declared",
    ),
    (
        GOOD + "default_tier: gold\n",
        "routing.yaml:20:15: default_tier: there is no tier 'gold': use one of free",
    ),
]

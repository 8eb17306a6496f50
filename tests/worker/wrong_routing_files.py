"""A good routing.yaml, and wrong ones, each with the sentence that refuses it."""

from __future__ import annotations

from tests.worker.good_routing_file import GOOD, LARGE, NO_PROVIDER, SOL, replaced
from tests.worker.wrong_limits import WRONG_LIMITS

WRONG: list[tuple[str, str]] = [
    (
        replaced("max_output_tokens: 9,", "max_output_tokens: 9, concurrency: 0,"),
        "routing.yaml:7:94: aliases.small[1].concurrency: found '0', write a whole number from 1 to 1000000",
    ),
    (
        replaced("key_env: OPENAI_API_KEY", "key_env: OPENAI_API_KEY, capabilities: {imags: false}"),
        "routing.yaml:2:106: providers.openai.capabilities.imags: unknown key, did you mean 'images'?",
    ),
    (
        replaced("max_output_tokens: 9,", "max_output_tokens: 9, capabilities: {tools: maybe},"),
        "routing.yaml:7:103: aliases.small[1].capabilities.tools: found 'maybe', write true or false",
    ),
    (
        replaced("weight: 0", "capabilities: {service_tier: false}, service_tier: flex"),
        "routing.yaml:7:132: aliases.small[1].service_tier: its capabilities say that it takes none: remove one of "
        "them",
    ),
    (
        replaced("  ask:\n", "  fairlane.ask:\n"),
        "routing.yaml:12:5: tasks.fairlane.ask: tasks that begin with 'fairlane.' are the fleet's own: "
        "choose another name",
    ),
    (
        replaced("default: small", "default: smal"),
        "routing.yaml:12:14: tasks.ask.default: there is no alias 'smal', did you mean 'small'?",
    ),
    (
        replaced("fallback: [large]", "fallback: [small, huge]"),
        "routing.yaml:13:23: tasks.ask.fallback[1]: there is no alias 'huge': use one of large, small",
    ),
    (
        replaced("{provider: openai, model: gpt-6-luna", "{provider: opanai, model: gpt-6-luna"),
        "routing.yaml:6:18: aliases.small[0].provider: there is no provider 'opanai', did you mean 'openai'?",
    ),
    (
        replaced("max_cost_usd: 0.001", "max_costs_usd: 0.001"),
        "routing.yaml:14:5: tasks.ask.max_costs_usd: unknown key, did you mean 'max_cost_usd'?",
    ),
    (
        replaced("max_cost_usd: 0.001", "max_cost_usd: .nan"),
        "routing.yaml:14:19: tasks.ask.max_cost_usd: found '.nan', write an amount in USD from 0 to 1000000000, "
        "for example 0.001",
    ),
    (
        replaced("max_cost_usd: 0.001", "max_cost_usd: -1"),
        "routing.yaml:14:19: tasks.ask.max_cost_usd: found '-1', write an amount in USD from 0 to 1000000000, "
        "for example 0.001",
    ),
    (
        replaced("max_cost_usd: 0.001", "max_cost_usd: .inf"),
        "routing.yaml:14:19: tasks.ask.max_cost_usd: found '.inf', write an amount in USD from 0 to 1000000000, "
        "for example 0.001",
    ),
    (
        replaced("max_cost_usd: 0.001", "max_cost_usd: '0.001'"),
        "routing.yaml:14:19: tasks.ask.max_cost_usd: found '0.001', write an amount in USD from 0 to 1000000000, "
        "without quotes, for example 0.001",
    ),
    (
        replaced("max_cost_usd: 0.001", "max_latency_ms: 1.5"),
        "routing.yaml:14:21: tasks.ask.max_latency_ms: found '1.5', write a whole number from 1 to 86400000",
    ),
    (
        replaced("max_cost_usd: 0.001", "max_latency_ms: 0"),
        "routing.yaml:14:21: tasks.ask.max_latency_ms: found '0', write a whole number from 1 to 86400000",
    ),
    (
        replaced("max_cost_usd: 0.001", "requires_citations: yes"),
        "routing.yaml:14:25: tasks.ask.requires_citations: found 'yes', write true or false",
    ),
    (
        replaced("max_cost_usd: 0.001", "default: large"),
        "routing.yaml:14:5: tasks.ask.default: this key stands twice, first on line 12: remove one of them",
    ),
    (replaced("    default: small\n", ""), "routing.yaml:12:5: tasks.ask: 'default' is missing: add it"),
    (
        replaced("default: small", "default:"),
        "routing.yaml:12:13: tasks.ask.default: found nothing, write a text",
    ),
    (
        replaced("default: small", "default: [small]"),
        "routing.yaml:12:14: tasks.ask.default: found a list, write a text",
    ),
    (
        replaced("dialect: openai, base_url: https", "dialect: opnai, base_url: https"),
        "routing.yaml:2:21: providers.openai.dialect: found 'opnai', write openai or anthropic or gemini",
    ),
    (
        replaced("max_output_tokens: 100}", "max_output_tokens: 100, tokenizer: gpt2}"),
        "routing.yaml:6:102: aliases.small[0].tokenizer: found 'gpt2', write o200k or cl100k or qwen3 or bytes",
    ),
    (
        replaced("https://api.openai.com/v1", "api.openai.com"),
        "routing.yaml:2:39: providers.openai.base_url: write a URL that starts with https:// or http:// and holds no "
        "password",
    ),
    (
        replaced("https://api.openai.com/v1", '"http://[::1/v1"'),
        "routing.yaml:2:39: providers.openai.base_url: write a URL that starts with https:// or http:// and holds no "
        "password",
    ),
    (
        replaced("https://api.openai.com/v1", "http://localhost:port/v1"),
        "routing.yaml:2:39: providers.openai.base_url: write a URL that starts with https:// or http:// and holds no "
        "password",
    ),
    (
        replaced("https://api.openai.com/v1", "https://me:secret@api.openai.com"),
        "routing.yaml:2:39: providers.openai.base_url: write a URL that starts with https:// or http:// and holds no "
        "password",
    ),
    (
        replaced("https://api.openai.com/v1", "http://169.254.169.254/v1"),
        f"routing.yaml:2:39: providers.openai.base_url: '169.254.169.254' {NO_PROVIDER}",
    ),
    (
        replaced("https://api.openai.com/v1", '"http://[::ffff:a9fe:a9fe]/"'),
        f"routing.yaml:2:39: providers.openai.base_url: '::ffff:a9fe:a9fe' {NO_PROVIDER}",
    ),
    (
        replaced("https://api.openai.com/v1", "http://metadata.google.internal, allow_link_local: false"),
        f"routing.yaml:2:39: providers.openai.base_url: 'metadata.google.internal' {NO_PROVIDER}",
    ),
    (
        replaced(
            "base_url_env: FAIRLANE_LOCAL_URL", "base_url_env: FAIRLANE_LOCAL_URL, allow_link_local: maybe"
        ),
        "routing.yaml:3:80: providers.local.allow_link_local: found 'maybe', write true or false",
    ),
    (
        replaced("base_url_env: FAIRLANE_LOCAL_URL", "base_url_env: MY_URL"),
        "routing.yaml:3:42: providers.local.base_url_env: found 'MY_URL', only FAIRLANE_LOCAL_URL is read",
    ),
    (
        replaced("key_env: OPENAI_API_KEY", "key_env: sk-123"),
        "routing.yaml:2:75: providers.openai.key_env: write an environment variable's name, for example "
        "OPENAI_API_KEY, never the value itself",
    ),
    (
        replaced("key_env: OPENAI_API_KEY", "key_file: sk-123"),
        "routing.yaml:2:76: providers.openai.key_file: write a file's path from / on, for example "
        "/run/secrets/openai, never the key itself",
    ),
    (
        replaced("key_env: OPENAI_API_KEY", "key_env: OPENAI_API_KEY, key_file: /run/secrets/openai"),
        "routing.yaml:2:101: providers.openai.key_file: a key is in a variable or in a file: remove 'key_env' or "
        "'key_file'",
    ),
    (
        replaced(", base_url_env: FAIRLANE_LOCAL_URL", ""),
        "routing.yaml:3:10: providers.local: 'base_url' is missing: add it, or 'base_url_env'",
    ),
    (
        replaced("price: {input: 1, output: 2}", "price: {input: 1}"),
        "routing.yaml:7:99: aliases.small[1].price: 'output' is missing: add it",
    ),
    (
        replaced("price: {input: 1, output: 2}", "price: {input: free, output: 2}"),
        "routing.yaml:7:107: aliases.small[1].price.input: found 'free', write an amount in USD from 0 to 1000000000, "
        "for example 0.001",
    ),
    (
        replaced("price: {input: 1, output: 2}", "price: {input: 0, output: 0}"),
        "routing.yaml:7:107: aliases.small[1].price.input: a price of 0 is not taken: if nothing is ever "
        "charged write 'price: {free: true}', else the smallest price, 0.000001",
    ),
    (
        replaced("price: {input: 1, output: 2}", "price: {input: 1, output: 2, cache_read: 0.0}"),
        "routing.yaml:7:133: aliases.small[1].price.cache_read: a price of 0 is not taken: if nothing is ever "
        "charged write 'price: {free: true}', else the smallest price, 0.000001",
    ),
    (
        replaced("price: {input: 1, output: 2}", "price: {free: true, input: 1}"),
        "routing.yaml:7:99: aliases.small[1].price: write either 'free: true' alone, or amounts without 'free'",
    ),
    (
        replaced("price: {input: 1, output: 2}", "price: {free: false}"),
        "routing.yaml:7:99: aliases.small[1].price: write either 'free: true' alone, or amounts without 'free'",
    ),
    (
        replaced("output: 2}", "output: 2, above: {200k: {input: 1, output: 2}}}"),
        "routing.yaml:7:135: aliases.small[1].price.above.200k: '200k' is no number of input tokens: write one like "
        "200000",
    ),
    (
        replaced("output: 2}", "output: 2, above: {200000: {input: 1}}}"),
        "routing.yaml:7:137: aliases.small[1].price.above.200000: 'output' is missing: add it",
    ),
    (
        replaced("weight: 0", "service_tier: batch"),
        "routing.yaml:7:95: aliases.small[1].service_tier: found 'batch', write default or flex or priority or fast",
    ),
    (
        replaced("dialect: openai, base_url_env", "dialect: anthropic, base_url_env").replace(
            "weight: 0", "service_tier: priority"
        ),
        "routing.yaml:7:95: aliases.small[1].service_tier: found 'priority', write standard_only",
    ),
    (
        replaced("weight: 0", "answers_as: {a: b}"),
        "routing.yaml:7:93: aliases.small[1].answers_as: found a mapping, write a list",
    ),
    (
        replaced("weight: 0", "weight: -1"),
        "routing.yaml:7:89: aliases.small[1].weight: found '-1', write a whole number from 0 to 1000000",
    ),
    (
        replaced(
            "model: tiny, context_tokens: 999, max_output_tokens: 9",
            "model: tiny, context_tokens: 10, max_output_tokens: 100",
        ),
        "routing.yaml:7:77: aliases.small[1].max_output_tokens: it is over context_tokens (10): lower it",
    ),
    (
        replaced("model: gpt-6.1-sol", "model: gpt-6-luna").replace(
            "luna, context_tokens: 1000", "luna, context_tokens: 900", 1
        ),
        "routing.yaml:9:7: aliases.large[0]: 'openai/gpt-6-luna' has other limits or prices in another alias: "
        "state the same ones",
    ),
    (
        replaced("provider: local, model: tiny", "provider: openai, model: gpt-6-luna").replace(
            ", weight: 0, price: {input: 1, output: 2}", ""
        ),
        "routing.yaml:7:7: aliases.small[1]: 'openai/gpt-6-luna' stands twice in this alias: remove one, "
        "or raise its weight",
    ),
    (
        replaced(
            "  large:\n    - {provider: openai, model: gpt-6.1-sol, context_tokens: 1000, max_output_tokens: 100}",
            "  large: []",
        ),
        "routing.yaml:8:10: aliases.large: an alias needs at least one deployment",
    ),
    (
        replaced(LARGE, "  large: {strategy: quickest, deployments: [" + SOL + "]}"),
        "routing.yaml:8:21: aliases.large.strategy: found 'quickest', write ordered or weighted or cheapest or fastest",
    ),
    (
        replaced(LARGE, "  large: {strategy: cheapest}"),
        "routing.yaml:8:10: aliases.large: 'deployments' is missing: add it",
    ),
    (
        replaced(LARGE, "  large: {strategy: cheapest, deployments: []}"),
        "routing.yaml:8:44: aliases.large.deployments: an alias needs at least one deployment",
    ),
    (
        replaced(LARGE, "  large: {strategys: cheapest, deployments: [" + SOL + "]}"),
        "routing.yaml:8:11: aliases.large.strategys: unknown key, did you mean 'strategy'?",
    ),
    (
        replaced(LARGE, "  large: {strategy: fastest, deployments: [" + SOL + ", " + SOL + "]}"),
        "routing.yaml:8:130: aliases.large.deployments[1]: 'openai/gpt-6.1-sol' stands twice in this alias: remove "
        "one, or raise its weight",
    ),
    (
        replaced(
            LARGE,
            "  large: {deployments: ["
            + SOL.replace("gpt-6.1-sol", "gpt-6-luna, weight: 2").replace("100}", "99}")
            + "]}",
        ),
        "routing.yaml:8:25: aliases.large.deployments[0]: 'openai/gpt-6-luna' has other limits or prices in another "
        "alias: state the same ones",
    ),
    (
        replaced("  ask:", "  9ask:"),
        "routing.yaml:12:5: tasks.9ask: no job can name a task '9ask': start with a letter and use letters, digits "
        "and _ . -",
    ),
    (
        replaced("tiers:\n  free: {deny: [large], daily_budget_usd: 0.5}\n", "").replace(
            "acme: free", "acme: free"
        ),
        "routing.yaml:1:1: 'tiers' is missing: add it",
    ),
    (GOOD + "tenant:\n  x: free\n", "routing.yaml:20:1: tenant: unknown key, did you mean 'tenants'?"),
    (
        GOOD + "tasks: {}\n",
        "routing.yaml:20:1: tasks: this key stands twice, first on line 11: remove one of them",
    ),
    ("", "routing.yaml:1:1: the file is empty: see docs/routing.md"),
    ("- a\n- b\n", "routing.yaml:1:1: found a list, write a mapping of names to values"),
    (
        "tasks: {ask: {default: small\n",
        "routing.yaml:2:1: this is not YAML: expected ',' or '}', but got '<stream end>'",
    ),
    (
        "tasks:\n\task: 1\n",
        "routing.yaml:2:1: this is not YAML: found character '\\t' that cannot start any token",
    ),
    ("a: " + "[" * 30 + "]" * 30, "routing.yaml:1:1: the file nests more than 20 levels deep"),
    ("a: \x01\n", "routing.yaml:1:1: this line has a character that YAML does not allow"),
    *WRONG_LIMITS,
]

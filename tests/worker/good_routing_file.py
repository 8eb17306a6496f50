"""A small routing.yaml without a fault, and how to put one in."""

from __future__ import annotations

GOOD = """\
providers:
  openai: {dialect: openai, base_url: https://api.openai.com/v1, key_env: OPENAI_API_KEY}
  local: {dialect: openai, base_url_env: FAIRLANE_LOCAL_URL}
aliases:
  small:
    - {provider: openai, model: gpt-6-luna, context_tokens: 1000, max_output_tokens: 100}
    - {provider: local, model: tiny, context_tokens: 999, max_output_tokens: 9, weight: 0, price: {input: 1, output: 2}}
  large:
    - {provider: openai, model: gpt-6.1-sol, context_tokens: 1000, max_output_tokens: 100}
tasks:
  ask:
    default: small
    fallback: [large]
    max_cost_usd: 0.001
tiers:
  free: {deny: [large], daily_budget_usd: 0.5}
tenants:
  acme: free
  globex: {tier: free, concurrency: 7, zone: Europe/Berlin}
"""


NO_PROVIDER = (
    "is a link-local address or a cloud's metadata service, where keys and prompts must not go: write the provider's "
    "own address, or 'allow_link_local: true' if a model is served there"
)


SOL = "{provider: openai, model: gpt-6.1-sol, context_tokens: 1000, max_output_tokens: 100}"
LARGE = f"  large:\n    - {SOL}"


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)

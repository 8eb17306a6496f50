"""What pricing one attempt costs: from the flattened card, and by genai-prices' own `calc_price`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import genai_prices

from benchmarks.rig import table
from producer_sdk.contract import PICO_PER_USD, Usage
from worker.budget.catalogue import rate_cards
from worker.rate_card import RateCard
from worker.routing_file import Deployment
from worker.routing_load import load, packaged_routing

ROUNDS, CALLS_A_ROUND, THEIR_CALLS = 7, 20_000, 200
COUNTS = {
    "input_tokens": 150_000,
    "output_tokens": 600,
    "cache_read_tokens": 100_000,
    "cache_write_tokens": 20_000,
}
USAGE = Usage.model_validate(COUNTS)
AT = datetime.now(UTC).replace(hour=2)  # in DeepSeek's dear hours


def microseconds(calls: int, price: Callable[[], object]) -> float:
    """Processor time of one call: other work on the machine does not count."""
    began = time.process_time()
    for _ in range(calls):
        price()
    return (time.process_time() - began) / calls * 1e6


def measured(deployment: Deployment, card: RateCard) -> list[tuple[float, float]]:
    """Microseconds of a price by the card and by genai-prices, round after round; first that they are equal."""
    theirs_usage = genai_prices.Usage(**COUNTS)

    def ours() -> int:
        return card.cost(USAGE, at=AT, service_tier="default")

    def theirs() -> genai_prices.types.PriceCalculation:
        return genai_prices.calc_price(
            theirs_usage,
            deployment.model,
            provider_id=deployment.provider.name,
            genai_request_timestamp=AT,
        )

    assert ours() == theirs().total_price * PICO_PER_USD, deployment.name
    return [(microseconds(CALLS_A_ROUND, ours), microseconds(THEIR_CALLS, theirs)) for _ in range(ROUNDS)]


def run() -> str:
    """The table: every model of routing.yaml that genai-prices prices."""
    deployments = load(packaged_routing()).deployments()
    cards, _missing = rate_cards(deployments)
    every: list[float] = []
    rows = [["model", "flattened card, µs", "calc_price, µs", "× faster (median ≥ 100)"]]
    for name, deployment in sorted(deployments.items()):
        if deployment.price is not None:
            continue
        rounds = measured(deployment, cards[name])
        ours, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
        faster = statistics.median(their / our for our, their in rounds)
        every.append(faster)
        rows.append([name, f"{ours:.2f}", f"{theirs:.0f}", f"{faster:.0f}"])
    rows.append(["median of the models", "", "", f"{statistics.median(every):.0f}"])
    return table(f"The price of one attempt, equal to the pico-dollar (median of {ROUNDS} rounds)", rows)


if __name__ == "__main__":
    print(run())

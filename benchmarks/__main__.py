"""`make bench`: every benchmark in turn."""

import os
import platform
from datetime import UTC, datetime

from benchmarks import (
    allowance,
    budget_burst,
    budget_concurrency,
    client_cpu,
    health_cost,
    held_calls,
    idle_and_start,
    jobs_per_second,
    ledger_rows,
    llmock_verdict,
    open_calls,
    plan,
    provider_down,
    quiet_tenant,
    rate_card,
    reserve_settle,
    retry_storm,
    streaming,
    submit_rate,
    take_cost,
    token_bounds,
    weighted_shares,
)

LANES = (quiet_tenant, weighted_shares, allowance, take_cost, idle_and_start)
MONEY = (token_bounds, rate_card, budget_concurrency, reserve_settle, ledger_rows, budget_burst)
CALLS = (held_calls, client_cpu, health_cost, plan, provider_down, retry_storm, llmock_verdict, streaming)

print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
for benchmark in (jobs_per_second, submit_rate, open_calls, *LANES, *MONEY, *CALLS):
    print(benchmark.run(), flush=True)

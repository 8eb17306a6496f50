"""`make bench`: every benchmark in turn."""

import os
import platform
from datetime import UTC, datetime

from benchmarks import (
    allowance,
    idle_and_start,
    jobs_per_second,
    open_calls,
    quiet_tenant,
    rate_card,
    submit_rate,
    take_cost,
    token_bounds,
    weighted_shares,
)

LANES = (quiet_tenant, weighted_shares, allowance, take_cost, idle_and_start)

print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
for benchmark in (jobs_per_second, submit_rate, open_calls, *LANES, token_bounds, rate_card):
    print(benchmark.run(), flush=True)

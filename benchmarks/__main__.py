"""`make bench`: every benchmark in turn."""

import os
import platform
from datetime import UTC, datetime

from benchmarks import jobs_per_second, open_calls, submit_rate

print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
for benchmark in (jobs_per_second, submit_rate, open_calls):
    print(benchmark.run(), flush=True)

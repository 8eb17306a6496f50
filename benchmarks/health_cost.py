"""What the two Redis scripts of a deployment's health cost: jobs a second of the whole pipeline without them ÷ with."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.jobs_per_second import fairlane
from benchmarks.rig import table, valkey

RUNS = 5
MOST = 1.05
KINDS = ("pipeline", "unwatched")


def run(*, runs: int = RUNS) -> str:
    """The table: by turns, for what else the machine does comes and goes."""
    with valkey("always") as server:
        pairs = [[fairlane(server, kind, _folder()) for kind in KINDS] for _ in range(runs)]
    watched, unwatched = (statistics.median(found) for found in zip(*pairs, strict=True))
    ratio = statistics.median(without / with_ for with_, without in pairs)
    rows = [
        ["pipeline", "jobs/s"],
        ["every step", f"{watched:.0f}"],
        ["without the scripts of health", f"{unwatched:.0f}"],
        [f"÷, median of pairs (≤ {MOST})", f"{ratio:.2f}"],
    ]
    return table(f"The cost of a deployment's health, one worker process (median of {runs})", rows)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fl-bench-"))


if __name__ == "__main__":
    print(run())

"""docs/sdk.md is a program: its blocks run in order against a fleet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from producer_sdk import FleetSettings
from tests.producer_sdk.fake_worker import FakeWorker

ROOT = Path(__file__).parents[2]


def test_every_block_of_the_document_runs_and_prints_what_it_should(
    fleet_settings: FleetSettings, worker: FakeWorker
) -> None:
    text = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    canvas = next(block for block in blocks if "chain(" in block)
    named = {"FAIRLANE_BROKER_URL": fleet_settings.broker_url, "FAIRLANE_NAMESPACE": fleet_settings.namespace}
    program = "\n".join(block for block in blocks if block is not canvas)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | named,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    printed = ran.stdout.splitlines()
    assert printed[0] == "echo: Where is my card?"
    assert len([line for line in printed if line.endswith(" succeeded")]) == 100
    assert printed[-4:] == ["echo: Where is my card?", "echo: Is it late?", "delayed", "pending"]

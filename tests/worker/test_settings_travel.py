"""A child process reads the same settings as its parent."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
PRINT = "import json; from worker.settings import WorkerSettings; print(json.dumps(WorkerSettings.from_env().to_env()))"


def test_settings_given_to_a_child_process_are_read_there_unchanged(tmp_path: Path) -> None:
    settings = WorkerSettings.from_env(home=tmp_path)
    fleet = replace(
        settings.fleet,
        namespace="other",
        producer_key=b"key",
        result_ttl_s=9,
        lane_shards=8,
        broker_timeout_s=7,
    )
    settings = replace(
        settings, fleet=fleet, slots=6, lease_s=5.5, soft_limit_s=4.5, local_url="http://127.0.0.1:1"
    )
    told = subprocess.run(
        [sys.executable, "-c", PRINT],
        env=settings.to_env(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    here = {name: value for name, value in settings.to_env().items() if name.startswith("FAIRLANE_")}
    there = json.loads(told.stdout)
    assert {name: value for name, value in there.items() if name.startswith("FAIRLANE_")} == here


def test_every_setting_travels(tmp_path: Path) -> None:
    sources = (ROOT / "worker" / "settings.py", ROOT / "producer_sdk" / "settings.py")
    read = set().union(*(re.findall(r"FAIRLANE_[A-Z_]+", source.read_text()) for source in sources))
    assert read <= WorkerSettings.from_env(home=tmp_path).to_env().keys()


def test_a_hidden_variable_reaches_no_child(tmp_path: Path) -> None:
    assert "PATH" not in WorkerSettings.from_env(home=tmp_path).to_env(without={"PATH"})

"""Vocabularies at the start: those of usable models are loaded, and a worker and the doctor say which are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.worker.job_runs import REPO, deployment, routing_of
from worker.assembly import load_counts

ABSENT = "import sys; sys.modules['quicktok'] = None; "  # as if the extra were not installed
SAID = (
    "the input of openai/gpt-5-mini, openai/text-embedding-3-small is bounded by its bytes, several times too high: "
    "install fairlane[tokens] to count it by the model's vocabulary"
)


def python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=REPO,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO), **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )


def doctor(before: str, home: Path, **environment: str) -> dict[str, str]:
    program = f"{before}from worker.cli.main import main; main()"
    done = python(program, "doctor", "routing", "--json", FAIRLANE_HOME=str(home), **environment)
    return {
        check["name"]: f"{check['state']}: {check['said']}" for check in json.loads(done.stdout)["checks"]
    }


async def test_only_the_vocabularies_of_models_that_can_be_called_are_loaded(caplog):
    routing = routing_of(aliases={"small": (deployment("qwen3-8b"),), "large": (deployment("any"),)})
    assert list(await load_counts(routing, {})) == ["qwen3"]
    assert await load_counts(routing, {"local/qwen3-8b": "no price"}) == {}
    assert caplog.messages == []


def test_a_worker_without_the_extra_says_once_which_models_are_bounded_by_bytes():
    program = f"""{ABSENT}
import asyncio
from tests.worker.job_runs import deployment, routing_of
from worker.assembly import load_counts
routing = routing_of(aliases={{"small": (deployment("qwen3-8b"), deployment("any")), "large": ()}})
print(asyncio.run(load_counts(routing, {{}})))
"""
    done = python(program)
    assert done.stdout == "{}\n"
    assert (
        done.stderr
        == SAID.replace("openai/gpt-5-mini, openai/text-embedding-3-small", "local/qwen3-8b") + "\n"
    )


def test_the_doctor_notes_what_the_extra_would_change_and_is_silent_where_it_is_there(tmp_path):
    key = {"OPENAI_API_KEY": "sk-example"}
    assert doctor(ABSENT, tmp_path, **key)["tokens"] == f"note: {SAID}"
    assert "tokens" not in doctor("", tmp_path, **key)
    assert "tokens" not in doctor(ABSENT, tmp_path)

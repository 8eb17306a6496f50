"""A real model without a key: llama.cpp's server in a fleet, both wire formats, its own count against the ledger."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.throwaway import NotHere, install_into
from producer_sdk import Fleet
from producer_sdk.contract import JobResult
from tests.stories.conftest import home_settings
from worker.cli.fleet_commands import fleet_commands
from worker.embedded.demo.local_play import ROUTING, counted, in_ledger
from worker.embedded.fleet import EmbeddedFleet, FleetShape
from worker.embedded.local_model.server import MODEL, is_ready
from worker.embedded.local_model.wheel import model_file
from worker.errors import FleetDown

PACKAGE = "xllamacpp==2026.10.11549"
WITHIN_S = 120
SYSTEM = {"role": "system", "content": "You are brief and kind to everyone. " * 4}


@pytest.fixture
def fleet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedFleet]:
    """A fleet whose one model is real; its file, and the server where it is missing, are kept between runs."""
    cache = request.config.cache
    assert cache is not None
    try:
        if importlib.util.find_spec("xllamacpp") is None:
            found = install_into(cache.mkdir("xllamacpp"), PACKAGE)
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(found), *sys.path])))
        model = model_file(cache.mkdir("models"))
    except (NotHere, FleetDown) as reason:
        pytest.skip(str(reason))
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        settings = replace(home_settings(Path(folder)), routing_path=ROUTING, uses_keys=False)
        shape = FleetShape(workers=1, flower_port=None, local_model=model)
        with EmbeddedFleet(settings, commands=fleet_commands(), shape=shape) as running:
            yield running


def ask(producer: Fleet, task: str, question: str) -> JobResult:
    messages = [SYSTEM, {"role": "user", "content": question}]
    job = producer.submit(tenant="acme", task=task, messages=messages, params={"max_output_tokens": 4})
    return job.result(timeout=WITHIN_S)


def test_a_real_model_answers_in_both_wire_formats_and_every_token_is_in_the_ledger(fleet: EmbeddedFleet):
    url = fleet.settings.local_url or ""
    with Fleet(fleet.settings.fleet) as producer:
        first = ask(producer, "classify_intent", "Where is my parcel?")
        second = ask(producer, "rag_answer", "When does it come?")
    assert (first.provider, second.provider) == ("local", "local_messages")
    for result in (first, second):
        assert (result.status, result.model, result.cost_usd) == ("succeeded", MODEL, 0)
        assert result.text
        assert result.usage.input_tokens > 30
        assert 1 <= result.usage.output_tokens <= 4
    assert second.usage.cache_read_tokens > 20, "what both begin with is read from its prefix cache"
    told = counted(url)
    assert told.written == first.usage.output_tokens + second.usage.output_tokens
    assert asyncio.run(in_ledger(fleet.settings.ledger_url)) == told
    port = int(url.rpartition(":")[2])
    assert is_ready(port)
    fleet.__exit__(None, None, None)
    assert not is_ready(port), "the model's server ends with its fleet"


def failed(home: Path, *words: str, **env: str) -> str:
    """What the command says when it cannot do that: one sentence, and the exit code of a fleet that is down."""
    ran = subprocess.run(
        [sys.executable, "-m", "worker.cli", *words],
        env={**os.environ, "FAIRLANE_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (5, ""), ran.stderr
    return ran.stderr.strip().splitlines()[-1]


def test_where_it_cannot_be_served_one_sentence_says_why(tmp_path: Path):
    text = ROUTING.read_text().replace(f"model: {MODEL}", "model: other")
    (tmp_path / "routing.yaml").write_text(text)
    said = failed(tmp_path, "up", "--model", "local", FAIRLANE_ROUTING=str(tmp_path / "routing.yaml"))
    assert f"routing.yaml has no deployment of the model {MODEL} at a provider with base_url_env" in said
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text("import sys\nsys.modules['xllamacpp'] = None\n")
    said = failed(
        tmp_path, "demo", "--model", "local", PYTHONPATH=f"{tmp_path / 'blocked'}{os.pathsep}{os.getcwd()}"
    )
    assert said.endswith("the local model's server is not installed: pip install 'fairlane[local]'")

"""A worker's log lines: JSON, and nothing that an error's text might quote."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import logging, threading
from worker.telemetry.logs import configure_logs
configure_logs("INFO")
def fails():
    raise ValueError("the prompt")
died = threading.Thread(target=fails, name="ledger")
died.start()
died.join(10)
try:
    fails()
except ValueError:
    logging.getLogger("worker.test").exception("caught")
"""


def test_an_errors_text_is_in_no_line_not_even_of_a_thread_that_died() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [(line["message"], line["error"]) for line in lines] == [
        ("a thread has died", "ValueError"),
        ("caught", "ValueError"),
    ]
    assert "fails" in lines[0]["at"]
    assert "the prompt" not in ran.stderr

"""`fairlane demo` on a user's own small files: every job ends, and both books agree."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stories.conftest import ROOT


def test_the_demo_runs_on_other_peoples_files_and_its_books_are_equal(tmp_path: Path) -> None:
    with (ROOT / "examples" / "messages.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[:31]
    with (tmp_path / "messages.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    documents = [
        {"id": f"d{number}", "title": "", "text": f"About subject{number}.", "source": ""}
        for number in range(6)
    ]
    questions = [{"question": f"What of subject{number}?", "answer": ""} for number in range(6)]
    for name, lines in (("documents", documents), ("questions", questions)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    given = [f"--{name}={tmp_path / file}" for name, file in FILES.items()]
    ran = subprocess.run(
        [sys.executable, "-m", "worker.cli", "demo", "--workers=1", "--json", *given],
        env={**os.environ, "OPENAI_API_KEY": "never-used", "FAIRLANE_HOME": str(tmp_path / "unused")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    outcome = json.loads(ran.stdout)
    assert outcome["equal"] is True
    assert outcome["ledger"]["cost_usd"] == outcome["provider"]["cost_usd"]
    by_tenant = {tenant["tenant"]: tenant for tenant in outcome["tenants"]}
    assert {name: tenant["jobs"] for name, tenant in by_tenant.items()} == {
        "acme": 13,
        "globex": 13,
        "initech": 10,
    }
    assert by_tenant["acme"]["outcomes"] == {"succeeded": 13}
    assert by_tenant["globex"]["refusals"] == {"unsafe_input": 1}
    assert not (tmp_path / "unused").exists()


FILES = {"messages": "messages.csv", "documents": "documents.jsonl", "questions": "questions.jsonl"}

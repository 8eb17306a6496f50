"""Each program in examples/ does what its first line says."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.stories.conftest import ROOT


def run(name: str, environment: dict[str, str], *arguments: Path) -> str:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_submit_one_prints_an_answer_with_its_price(environment: dict[str, str]) -> None:
    assert re.fullmatch(
        r"talk_to_human \(twin-small, \d+\.\d+ USD, \d+ ms\)\n", run("submit_one.py", environment)
    )


def test_batch_answers_all_hundred_most_of_them_from_the_cache(environment: dict[str, str]) -> None:
    ends = re.findall(r"^ *(\d+)  .*\(cache: (\w+)\)$", run("batch.py", environment), re.MULTILINE)
    assert sum(int(count) for count, _cache in ends) == 100
    assert sum(int(count) for count, cache in ends if cache == "exact") >= 50


def test_agent_is_answered_on_a_harmless_tool_result_and_refused_on_a_harmful_one(
    environment: dict[str, str],
) -> None:
    *harmless, harmful = run("agent.py", environment).splitlines()
    assert "parcel" in " ".join(harmless)
    assert harmful.startswith("refused: unsafe_tool_result:")


def test_ingest_writes_a_vector_for_each_paragraph(environment: dict[str, str], tmp_path: Path) -> None:
    documents, vectors = tmp_path / "documents.jsonl", tmp_path / "vectors.jsonl"
    texts = [f"Refund {number}.\n\nIt takes {number} days." for number in range(60)]
    lines = (json.dumps({"id": f"faq-{number}", "text": text}) for number, text in enumerate(texts))
    documents.write_text("\n".join(lines), encoding="utf-8")
    said = run("ingest.py", environment, documents, vectors)
    assert re.fullmatch(r"120 chunks in 2 jobs, 0\.0000\d+ USD\n", said)
    written = [json.loads(line) for line in vectors.read_text(encoding="utf-8").splitlines()]
    assert [written[0]["id"], written[-1]["id"], len(written)] == ["faq-0#0", "faq-59#1", 120]
    assert {len(one["vector"]) for one in written} == {256}

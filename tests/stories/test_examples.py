"""Each program in examples/ does what its first line says."""

import re
import subprocess
import sys

from tests.stories.conftest import ROOT


def run(name: str, environment: dict[str, str]) -> str:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
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

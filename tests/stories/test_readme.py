"""What README shows on its first screen is what happens."""

import re
import subprocess
import sys

from tests.stories.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(program: str, environment: dict[str, str]) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_shortest_program_prints_what_readme_says(environment: dict[str, str]) -> None:
    assert run(blocks("python")[0], environment) == blocks("text")[0]


def test_a_rejection_is_a_code_a_status_and_a_sentence(environment: dict[str, str]) -> None:
    said = run(blocks("python")[1], environment)
    assert re.match(r"unknown_task 404 .*classify_intent", said)


def test_the_two_commands_are_verbs_of_the_makefile() -> None:
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", blocks("sh")[0], re.MULTILINE)) <= verbs


def test_the_docs_own_list_names_every_page() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_every_file_that_readme_links_to_is_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    assert linked
    assert [path for path in linked if "://" not in path and not (ROOT / path).exists()] == []

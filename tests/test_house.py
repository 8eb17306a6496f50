"""The house rules that a machine can check: sizes, names, no mocks, nothing of the machine it was written on."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = ("worker", "producer_sdk", "tests", "benchmarks", "examples")
TEXT = {".py", ".lua", ".md", ".yaml", ".yml", ".toml", ".json", ".jsonl", ".csv", ".lock", ".ini", ".txt"}
UNTOLD_NAMES = {"utils", "util", "helpers", "common", "base", "manager", "handler", "data", "info"}
MACHINE_PATH = re.compile(r"/(?:work|root|opt|Users|home/\w+)/")
PACKAGE_HOST = re.compile(
    r"(?:--(?:extra-)?index-url|--find-links|--trusted-host)\s*=?\s*\S+|pypi\.\w+|pythonhosted"
)


def files(*suffixes: str, under: tuple[str, ...] = CODE) -> Iterator[Path]:
    for folder in under:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and "__pycache__" not in path.parts:
                yield path


def told(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_is_over_400_lines() -> None:
    assert [f"{told(path)}: {lines(path)}" for path in files(".py") if lines(path) > 400] == []


def test_no_function_is_over_60_lines() -> None:
    found = [
        f"{told(path)}: {function.name}"
        for path in files(".py")
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno >= 60
    ]
    assert found == []


def test_no_script_is_over_80_lines() -> None:
    assert [f"{told(path)}: {lines(path)}" for path in files(".lua") if lines(path) > 80] == []


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    silent = [
        told(path)
        for path in files(".py", under=("worker", "producer_sdk"))
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_module_has_a_name_that_tells_nothing() -> None:
    found = [
        told(path) for path in files(".py", under=("worker", "producer_sdk")) if path.stem in UNTOLD_NAMES
    ]
    assert found == []


def test_no_test_uses_mocks() -> None:
    word = "mo" + "ck"
    found = [
        told(path)
        for path in files(".py", under=("tests",))
        if re.search(
            rf"unittest\.{word}|import {word}|monkeypatch\.setattr|Magic{word.title()}",
            path.read_text(encoding="utf-8"),
        )
        and path != Path(__file__)
    ]
    assert found == []


def test_nothing_names_the_machine_or_the_package_hosts_it_was_written_with() -> None:
    found = []
    for path in [
        *files(*TEXT, under=(*CODE, "docs", "deploy", ".ci")),
        *(p for p in ROOT.iterdir() if p.is_file()),
    ]:
        if (
            path == Path(__file__)
            or path.name in ("LICENSE", ".git")
            or (path.suffix not in TEXT and path.suffix)
        ):
            continue
        text = path.read_text(encoding="utf-8")
        found += [
            f"{told(path)}: {hit.group()}"
            for rule in (MACHINE_PATH, PACKAGE_HOST)
            for hit in rule.finditer(text)
        ]
    assert found == []


def test_the_architecture_page_names_every_room() -> None:
    floors = re.findall(r'"(worker\.policy [^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[0]
    rooms = {name for name in re.findall(r"worker\.(\w+)", floors) if (ROOT / "worker" / name).is_dir()}
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("### The rooms")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", section.split("## ")[0], re.MULTILINE)) == rooms

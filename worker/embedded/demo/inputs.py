"""The demo's inputs: messages, questions and documents, from the project's own files or from a user's."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producer_sdk.contract import Document
from worker.errors import ConfigError
from worker.safety.rules import scan

_HEADING = re.compile(r"^#{1,3} (.+)$", re.MULTILINE)
SHORTEST_SECTION = 120
LONGEST_SECTION = 4000


@dataclass(frozen=True)
class LabelledMessage:
    """A customer's message and the intent that people gave it."""

    text: str = field(repr=False)
    category: str


@dataclass(frozen=True)
class DemoInputs:
    """What the demo works on."""

    messages: tuple[LabelledMessage, ...]
    questions: tuple[str, ...]
    documents: tuple[Document, ...]


def project_file(*parts: str) -> Path:
    """A file of the project, in a source checkout or inside the installed package.

    Raises ConfigError when the installation left it out.
    """
    package = Path(__file__).parents[2]
    for root in (package, package.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise ConfigError(
        f"{'/'.join(parts)} is not part of this installation: run the demo from a checkout, or give it your own "
        "--messages, --documents and --questions"
    )


def read_inputs(*, messages: Path | None, documents: Path | None, questions: Path | None) -> DemoInputs:
    """Each input from the given file, else the project's own. Raises ConfigError with the file, line and field."""
    if (documents is None) != (questions is None):
        raise ConfigError("--documents and --questions belong together: give both or neither")
    return DemoInputs(
        messages=tuple(read_messages(messages or project_file("examples", "messages.csv"))),
        questions=tuple(read_questions(questions or project_file("examples", "questions.jsonl"))),
        documents=tuple(read_documents(documents) if documents else own_sections()),
    )


def read_messages(path: Path) -> list[LabelledMessage]:
    """A CSV file with the columns text and category."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = {"text", "category"} - set(rows.fieldnames or ())
            if missing:
                raise ConfigError(f"{path}: the first line must name the columns text and category")
            found = [
                LabelledMessage(row["text"], row["category"]) for row in rows if (row["text"] or "").strip()
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a CSV file: {_why(error)}") from error
    return _some(found, path, "message")


def read_questions(path: Path) -> list[str]:
    """JSON lines with the fields question and answer; the answers are for people."""
    return _some([_text(line, "question", where) for where, line in _lines(path)], path, "question")


def read_documents(path: Path) -> list[Document]:
    """JSON lines with the fields id, title, text and source."""
    found = [
        Document(
            id=_text(line, "id", where),
            text=_text(line, "text", where),
            title=str(line.get("title") or "") or None,
            url=None,
        )
        for where, line in _lines(path)
    ]
    return _some(found, path, "document")


def own_sections() -> list[Document]:
    """The project's own docs, but for what quotes injections to explain them: the demo poisons one document itself."""
    return [one for one in sections(project_file("docs")) if not scan(one.text, "document").strong]


def sections(folder: Path) -> list[Document]:
    """Every Markdown file under a folder, cut at its headings."""
    found = []
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        cuts = [*_HEADING.finditer(text)]
        for number, cut in enumerate(cuts):
            end = cuts[number + 1].start() if number + 1 < len(cuts) else len(text)
            body = text[cut.end() : end].strip()[:LONGEST_SECTION]
            if len(body) >= SHORTEST_SECTION:
                name = f"{path.relative_to(folder).with_suffix('').as_posix()}#{number}"
                found.append(Document(id=name, title=cut.group(1).strip(), text=body))
    return _some(found, folder, "section")


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {_why(error)}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{where}: this is not a line of JSON") from error
            if not isinstance(entry, dict):
                raise ConfigError(f"{where}: this line must be a JSON object")
            yield where, entry


def _text(line: Mapping[str, Any], name: str, where: str) -> str:
    value = line.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f'{where}: the field "{name}" must be a text')
    return value


def _some(found: list[Any], path: Path, what: str) -> list[Any]:
    if not found:
        raise ConfigError(f"{path} holds no {what}")
    return found


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__

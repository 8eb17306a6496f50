"""The files of `fairlane batch`: jobs, one a line; and results, {"job": …, "result": … or null} a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from producer_sdk.contract import Job, JobResult
from producer_sdk.contract.envelope import BadMessage, check_job
from worker.errors import ConfigError

T = TypeVar("T")
MOST_LINES = 100_000


@dataclass
class Line:
    """One line: its job, and how that ended; None: it has not yet."""

    job: Job
    result: JobResult | None


def read_jobs(path: Path, defaults: Mapping[str, Any]) -> list[Line]:
    """The jobs of a file, each with a job_id of its own. Raises ConfigError with the line."""

    def job_in(fields: dict[str, Any]) -> Line:
        whole = {**defaults, **fields}
        if isinstance(whole.get("messages"), str):
            whole["messages"] = [{"role": "user", "content": whole["messages"]}]
        return Line(check_job(whole), None)

    return _read(path, job_in)


def read_results(path: Path) -> list[Line]:
    """The lines of a file of results. Raises ConfigError with the line."""

    def line_in(fields: dict[str, Any]) -> Line:
        if "job" not in fields:
            raise BadMessage('a line of results is {"job": …, "result": … or null}')
        result = fields.get("result")
        return Line(check_job(fields["job"]), None if result is None else JobResult.model_validate(result))

    return _read(path, line_in)


def _read(path: Path, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    try:
        texts = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"{path} cannot be read ({why}): it must be a text file with one JSON object a line"
        ) from error
    if len(texts) > MOST_LINES:
        raise ConfigError(f"{path} has {len(texts):,} lines and {MOST_LINES:,} are the most: split it")
    found = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            found.append(_parsed(text, parse, where=f"{path}, line {number}"))
    if not found:
        raise ConfigError(f"{path} is empty: write one JSON object a line")
    return found


def _parsed(text: str, parse: Callable[[dict[str, Any]], T], *, where: str) -> T:
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise BadMessage("a line must be a JSON object")
        return parse(fields)
    except BadMessage as error:
        raise ConfigError(f"{where}: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{where}: this is no result of a job") from error
    except ValueError as error:
        raise ConfigError(f"{where}: this is not JSON") from error


def write_results(path: Path, lines: Sequence[Line]) -> None:
    """Write them whole or not at all, for nobody else to read: prompts and answers are in them."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with open(
        os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        for line in lines:
            job = line.job.model_dump(mode="json", exclude_defaults=True)
            result = line.result.model_dump(mode="json") if line.result else None
            file.write(json.dumps({"job": job, "result": result}, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)

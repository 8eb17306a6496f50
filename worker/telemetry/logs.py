"""Logs as one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType


class JsonLines(logging.Formatter):
    """Time, level, logger, message and, where there is one, the exception's type and places (not its values)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; exceptions are given by type and stack, since their text may quote content."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["at"] = _places(record.exc_info[2])
        return json.dumps(line)


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace, limit=30)
    return " > ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames)


def _thread_died(args: threading.ExceptHookArgs) -> None:
    """Like any error: its type and places, since its text may quote content."""
    if args.exc_value:
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger(__name__).critical("a thread has died", exc_info=trace)


def configure_logs(level: int | str = "INFO") -> None:
    """Send every logger's lines to standard error as JSON; Celery's per-task lines are kept at WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    threading.excepthook = _thread_died
    for chatty in ("celery.worker.strategy", "celery.app.trace", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

"""What a deployment takes of a request, and what a job needs: the table of capability_rows, read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from producer_sdk.contract import Finding, GenerationParams, ImagePart, Message
from worker.capability_rows import BY_DIALECT, NEEDED, PARAMETERS, ROWS
from worker.routing_file import Deployment, Dialect

_DATA_URL = re.compile(r"data:(image/[\w.+-]{1,40});base64,", re.ASCII)
LEFT_OUT = "parameter_left_out"


def taken_by(deployment: Deployment, base_url: str | None = None) -> frozenset[str]:
    """What the deployment takes. `base_url`: where it is called, if that is not what routing.yaml says."""
    provider = deployment.provider
    url = provider.base_url if base_url is None else base_url
    taken = _by_table(provider.dialect, urlsplit(url).hostname or "", deployment.model.lower())
    for stated in (provider.capabilities, deployment.capabilities):
        if stated:
            taken = taken - {name for name, takes in stated.items() if not takes}
            taken = taken | {name for name, takes in stated.items() if takes}
    return taken


@lru_cache(maxsize=4096)
def _by_table(dialect: Dialect, host: str, model: str) -> frozenset[str]:
    taken = BY_DIALECT[dialect]
    for row in ROWS:
        if row.dialect == dialect and _is_at(host, row.host) and re.match(row.model, model):
            taken = taken - set(row.refuses) | set(row.takes)
    return taken


def _is_at(host: str, wanted: str) -> bool:
    """Whether the host is the wanted one, or one below it."""
    return not wanted or f".{host}".endswith(f".{wanted}")


def needs(messages: Sequence[Message], params: GenerationParams) -> tuple[str, ...]:
    """What a job cannot do without, by capability."""
    found = set()
    if params.tools:
        found.add("tools")
        if params.tool_choice not in (None, "auto", "none"):
            found.add("forced_tool_choice")
    for message in messages:
        urls = image_urls(message)
        if urls:
            found.add("tool_images" if message.role == "tool" else "images")
        if any(url.startswith("https://") for url in urls):
            found.add("image_urls")
    return tuple(name for name in NEEDED if name in found)


def refused(deployment: Deployment, needed: Sequence[str]) -> str | None:
    """Why the deployment cannot do such a job, or None."""
    if not needed:
        return None
    taken = taken_by(deployment)
    lacking = [NEEDED[name] for name in needed if name not in taken]
    return f"it takes no {', no '.join(lacking)}" if lacking else None


def unreadable_image(messages: Sequence[Message]) -> str | None:
    """What is wrong with an image that no provider can take, or None."""
    for number, message in enumerate(messages):
        urls = image_urls(message)
        if urls and message.role in ("system", "assistant"):
            return f"messages[{number}] is the {message.role}'s and has an image: only users and tools show images"
        if any(not url.startswith("https://") and not _DATA_URL.match(url) for url in urls):
            return f"messages[{number}] has an image whose data: URL is not in base64: write data:image/png;base64,…"
    return None


def image_urls(message: Message) -> list[str]:
    """The URLs of a message's images."""
    if isinstance(message.content, str):
        return []
    return [part.url for part in message.content if isinstance(part, ImagePart)]


def inline_image(url: str) -> tuple[str, str] | None:
    """An image that comes as data: its media type, and itself in base64. None for one that is somewhere else."""
    found = _DATA_URL.match(url)
    return (found[1], url[found.end() :]) if found else None


def left_out(params: GenerationParams, taken: frozenset[str]) -> list[str]:
    """The parameters of the job that are not sent, because they would be refused."""
    given = [name for name in PARAMETERS if getattr(params, name) not in (None, [])]
    return [name for name in given if name not in taken]


def finding(parameter: str, deployment: Deployment) -> Finding:
    """What the job's result says of a parameter that was left out."""
    return Finding(rule=LEFT_OUT, where=f"params.{parameter}", action="flagged", detail=deployment.name)

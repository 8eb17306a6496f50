"""Vocabularies of the optional extra `tokens`: only those that are needed, loaded where nothing waits for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from worker.routing.chat_formats import chat_format
from worker.routing.embedding_bounds import input_format
from worker.routing.tokens import Count, has_unsettled, is_composed, most_bytes
from worker.routing_file import Deployment, Tokenizer

try:
    import quicktok
except ImportError:  # the extra `tokens` is not installed
    quicktok = None

_ENCODINGS: Mapping[Tokenizer, str] = {
    "o200k": "o200k_base",
    "cl100k": "cl100k_base",
    "qwen3": "qwen3",
}


def load(deployments: Iterable[Deployment]) -> dict[Tokenizer, Count]:
    """What counts a text by each vocabulary that these deployments have: some 0.3 s and 30 to 70 MB each.

    None of them without the extra `tokens`.
    """
    wanted = {vocabulary_of(deployment) for deployment in deployments} - {"bytes"}
    return {name: _counter(name) for name in sorted(wanted)} if quicktok else {}


def vocabulary_of(deployment: Deployment) -> Tokenizer:
    """What its input is counted by."""
    return input_format(deployment).vocabulary if deployment.embedding else chat_format(deployment).vocabulary


def uncounted(deployments: Iterable[Deployment]) -> list[str]:
    """The names of those that have a vocabulary which is not installed here: their input is bounded by its bytes."""
    if quicktok:
        return []
    return sorted({d.name for d in deployments if vocabulary_of(d) != "bytes"})


def without_extra(names: Iterable[str]) -> str:
    """What follows for them, and what to do, in one sentence."""
    return (
        f"the input of {', '.join(names)} is bounded by its bytes, several times too high: "
        "install fairlane[tokens] to count it by the model's vocabulary"
    )


def _counter(name: Tokenizer) -> Count:
    return partial(_count, quicktok.get_encoding(_ENCODINGS[name]), composes=name == "qwen3")


def _count(encoding: Any, text: str, *, composes: bool) -> int:
    """Tokens of a text, the names of special tokens read as text; its bytes where tokenizers may read it otherwise.

    Qwen's tokenizer composes characters first (NFC), llama.cpp's copy of it does not, and quicktok takes quadratic
    time to compose long runs of marks: only what is composed already is counted.
    """
    if (composes and not is_composed(text)) or has_unsettled(text):
        return most_bytes(text)
    return int(encoding.count(text))

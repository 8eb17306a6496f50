"""Bounds on the tokens of an embedding job: of each input, and of all together.

OpenAI's own models count what their vocabulary counts, and nothing around it. Whoever serves others may put marks and
an instruction around each input, and counts by a vocabulary that is not known here: then every byte is a token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from worker.routing.tokens import (
    BYTES_PER_TOKEN,
    SPECIAL_AS_TEXT,
    Count,
    InputBound,
    has_unsettled,
    is_composed,
    most_bytes,
)
from worker.routing_file import Deployment, Tokenizer


@dataclass(frozen=True)
class InputFormat:
    """Which vocabulary counts an input, and what at most stands around each, in tokens."""

    vocabulary: Tokenizer = "bytes"
    around: int = 32


UNKNOWN = InputFormat()
# tiktoken 0.14.0's table (2026-11); at OpenAI's own hosts alone, for elsewhere such a name may stand for anything.
_CL100K_AT_OPENAI = re.compile(r"text-embedding-(?:3-(?:small|large)|ada-002)$")


def input_format(deployment: Deployment) -> InputFormat:
    """The format of a deployment; `tokenizer` of routing.yaml goes before a known name."""
    provider, host = deployment.provider, urlsplit(deployment.provider.base_url).hostname or ""
    is_openai = provider.base_url_env is None and ("." + host).endswith(".api.openai.com")
    known = UNKNOWN
    if is_openai and _CL100K_AT_OPENAI.match(deployment.model):
        known = InputFormat("cl100k", around=0)
    if deployment.tokenizer not in (None, known.vocabulary):
        return InputFormat(deployment.tokenizer, UNKNOWN.around)
    return known


def inputs_bound(inputs: Sequence[str], chosen: InputFormat, count: Count | None) -> InputBound:
    """The bound on all inputs, with the longest of them. `count` counts a text by the vocabulary; None: by bytes."""
    highest = lowest = longest = 0
    for text in inputs:
        most = (count(text) if count else most_bytes(text)) + chosen.around
        least = _at_least(text, count)
        highest, lowest, longest = highest + most, lowest + least, max(longest, least)
    return InputBound(highest, lowest, longest)


def _at_least(text: str, count: Count | None) -> int:
    """Servers may strip a text, and may read a special token's name as that one token."""
    if count is None or not is_composed(text) or has_unsettled(text):
        return len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN
    return max(0, count(text.strip()) - SPECIAL_AS_TEXT * text.count("<|"))

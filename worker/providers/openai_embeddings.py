"""Embeddings in the OpenAI dialect (developers.openai.com/api/reference/embeddings): answered whole, not streamed."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pydantic_core

from producer_sdk.contract import Usage
from worker.job_run import Attempt
from worker.providers.fields import inner, input_usage
from worker.providers.reply import Request, joined
from worker.providers.vectors_reader import Told, VectorsReader, Wanted, WrongVectors, listed

# Hosts that write vectors as base64 of float32 when asked to (llama.cpp, vLLM and the twin run on this machine). Others
# may refuse to be asked; what they send is read either way.
_BASE64_HOSTS = ("api.openai.com", ".openai.azure.com", ".services.ai.azure.com", "127.0.0.1", "localhost")


class OpenAIEmbeddings:
    """The adapter for one embedding call."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted

    def request(self, attempt: Attempt, *, base_url: str, key: str | None) -> Request:
        """The call to send."""
        deployment = attempt.call.deployment
        body: dict[str, Any] = {"model": deployment.model, "input": attempt.job_run.job.inputs}
        if (urlsplit(base_url).hostname or "").endswith(_BASE64_HOSTS):
            body["encoding_format"] = "base64"
        if deployment.embedding and self._wanted.dimensions != deployment.embedding.dimensions:
            body["dimensions"] = self._wanted.dimensions
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = joined(base_url, "/v1/embeddings")
        return Request(url, headers, pydantic_core.to_json(body), is_whole=True)

    def reader(self) -> VectorsReader:
        """What reads the answer."""
        return VectorsReader(self._wanted, tell=_told, usage_in=_usage)


def _told(body: dict[str, Any], wanted: int) -> Told:
    """The vectors by their index, which need not be their order."""
    items = listed(body.get("data"), wanted)
    by_index: dict[int, Any] = {}
    for position, item in enumerate(items):
        index = item.get("index", position)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < wanted:
            raise WrongVectors("vectors_missing", "a vector belongs to no input")
        if index in by_index:
            raise WrongVectors("vectors_twice", f"the answer has two vectors for input {index}")
        by_index[index] = item.get("embedding")
    model = body.get("model")
    vectors = [by_index[index] for index in range(wanted)]
    return Told(vectors, model if isinstance(model, str) else "", _usage(body))


def _usage(body: dict[str, Any]) -> Usage | None:
    return input_usage(inner(body, "usage"), "prompt_tokens", "total_tokens")

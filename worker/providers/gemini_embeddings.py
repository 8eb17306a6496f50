"""Embeddings in the Gemini dialect: models/MODEL:batchEmbedContents (ai.google.dev/api/embeddings), answered whole."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pydantic_core

from producer_sdk.contract import Usage
from worker.job_run import Attempt
from worker.providers.fields import inner, input_usage
from worker.providers.reply import Request, joined
from worker.providers.vectors_reader import Told, VectorsReader, Wanted, listed


class GeminiEmbeddings:
    """The adapter for one embedding call. The key stands in a header: addresses are written to logs on the way."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted

    def request(self, attempt: Attempt, *, base_url: str, key: str | None) -> Request:
        """The call to send: each input a content of its own, for the parts of one content become one vector."""
        deployment = attempt.call.deployment
        model = deployment.model.removeprefix("models/")
        asked: dict[str, Any] = {"model": f"models/{model}"}
        if deployment.embedding and self._wanted.dimensions != deployment.embedding.dimensions:
            asked["outputDimensionality"] = self._wanted.dimensions
        requests = [{**asked, "content": {"parts": [{"text": text}]}} for text in attempt.job_run.job.inputs]
        path = f"/v1beta/models/{quote(model, safe='')}:batchEmbedContents"
        url = joined(base_url, path, version="/v1beta")
        headers = {"x-goog-api-key": key} if key else {}
        return Request(url, headers, pydantic_core.to_json({"requests": requests}), is_whole=True)

    def reader(self) -> VectorsReader:
        """What reads the answer."""
        return VectorsReader(self._wanted, tell=_told, usage_in=_usage)


def _told(body: dict[str, Any], wanted: int) -> Told:
    """The vectors, in the order of the inputs; no model is named."""
    vectors = [item.get("values") for item in listed(body.get("embeddings"), wanted)]
    return Told(vectors, "", _usage(body))


def _usage(body: dict[str, Any]) -> Usage | None:
    """Older versions of the API say nothing of tokens."""
    return input_usage(inner(body, "usageMetadata"), "promptTokenCount", "totalTokenCount")

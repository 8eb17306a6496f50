"""Which adapter makes an attempt's vectors, and whether its model made them."""

from __future__ import annotations

from collections.abc import Callable

from worker.job_run import Attempt
from worker.providers.gemini_embeddings import GeminiEmbeddings
from worker.providers.openai_embeddings import OpenAIEmbeddings
from worker.providers.reply import Adapter, Reply
from worker.providers.vectors_reader import Wanted, invalid
from worker.routing_file import Deployment, Dialect

_ADAPTERS: dict[Dialect, Callable[[Wanted], Adapter]] = {
    "openai": OpenAIEmbeddings,
    "gemini": GeminiEmbeddings,
}


def embedding_adapter(attempt: Attempt) -> Adapter:
    """The adapter for this one call, which knows what was asked for."""
    deployment, job_run = attempt.call.deployment, attempt.job_run
    wanted = Wanted(len(job_run.job.inputs), job_run.dimensions(deployment))
    return _ADAPTERS[deployment.provider.dialect](wanted)


def check_model(attempt: Attempt, reply: Reply) -> None:
    """Raises ProviderError where the answer names another model of its provider, whose vectors are of another space."""
    asked, said = attempt.call.deployment, reply.model.lower()
    if said in _names(asked):
        return
    for other in attempt.job_run.routing.deployments().values():
        if other.provider.name == asked.provider.name and said in _names(other) and _differs(other, asked):
            raise invalid("another model made the vectors", code="vectors_of_other_model", usage=reply.usage)


def _names(deployment: Deployment) -> set[str]:
    return {name.lower() for name in (deployment.model, *deployment.answers_as)}


def _differs(one: Deployment, other: Deployment) -> bool:
    if one.embedding is None or other.embedding is None:
        return True
    return one.embedding.vector_space != other.embedding.vector_space

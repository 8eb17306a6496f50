"""Which answers may be given again, and the key that names exactly one question of one tenant."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pydantic_core

from worker.job_run import Answer, JobRun

_LAYOUT = "cache_layout"  # a remark on the prompt's order, not on its safety


def why_not_from_cache(job_run: JobRun) -> str | None:
    """Why the job is not answered from the cache; None where it may be."""
    if job_run.known_task().cache_ttl_s <= 0:
        return "its task has no cache_ttl_s"
    if any(finding.rule != _LAYOUT for finding in job_run.findings):
        return "a safety rule has found something"
    return "its model is given tools" if job_run.job.params.tools else None


def may_keep(job_run: JobRun, answer: Answer) -> bool:
    """An answer of a model, complete, without calls for tools.

    A last resort's vectors may be another model's: they are no answer any more once the first one is back.
    """
    if answer.cache not in ("none", "provider") or answer.tool_calls:
        return False
    made_by = job_run.routing.deployments().get(answer.deployment) if answer.vectors else None
    return made_by is None or made_by.weight > 0


def cache_key(job_run: JobRun) -> str:
    """SHA-256 over the length-prefixed tenant, task, first alias, prompt version, parameters, messages and documents,
    and whether the answer must cite; of an embedding also its inputs, the vectors' length, and whose they are.

    Messages and documents are hashed as they came: the fence around them has another mark on another worker.
    """
    job, task = job_run.job, job_run.known_task()
    parts: Iterable[bytes] = (
        job.tenant.encode(),
        job.task.encode(),
        job_run.aliases[0].encode(),
        b"" if job.prompt_version is None else job.prompt_version.encode(),
        str(job_run.max_output_tokens).encode(),
        b"cited" if task.requires_citations else b"",
        job.params.model_dump_json(exclude={"max_output_tokens"}).encode(),
        pydantic_core.to_json(job.messages),
        pydantic_core.to_json(job.documents),
    )
    if job.inputs:
        parts = (*parts, pydantic_core.to_json(job.inputs), *_vectors(job_run))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _vectors(job_run: JobRun) -> Iterable[bytes]:
    """How long the vectors are to be, and which models may make them: another model's are no answer."""
    deployments = job_run.routing.aliases[job_run.aliases[0]]
    for deployment in deployments:
        if deployment.embedding:
            yield f"{deployment.embedding.vector_space} {job_run.dimensions(deployment)}".encode()

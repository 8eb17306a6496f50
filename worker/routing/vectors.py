"""Whose vectors a job gets, and what of it no call of an embedding model takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from producer_sdk.contract import MOST_VECTOR_BYTES
from producer_sdk.contract.vectors import BYTES_PER_NUMBER
from worker.routing_file import Deployment, EmbeddingLimits


def vector_space(usable: Sequence[Deployment]) -> str | None:
    """Which model's vectors this worker makes for a task, whatever the job: the first one that can be called.

    So a collection never mixes two models' vectors, though the last resort be another model.
    """
    found = sorted(usable, key=lambda one: not one.weight)
    return next((one.embedding.vector_space for one in found if one.embedding), None)


def unfit_vectors(limits: EmbeddingLimits, dimensions: int, *, inputs: int, at_least: int) -> str | None:
    """What of the job no call of this model takes, or no result holds. `at_least`: the tokens of all its inputs."""
    if not limits.min_dimensions <= dimensions <= limits.dimensions:
        return (
            f"it gives {limits.min_dimensions} to {limits.dimensions} dimensions, {dimensions} are asked for"
        )
    if inputs > limits.max_inputs:
        return f"a call takes {limits.max_inputs} inputs, the job has {inputs}"
    if limits.max_call_tokens is not None and at_least > limits.max_call_tokens:
        return f"a call takes {limits.max_call_tokens} tokens, the inputs have at least {at_least}"
    most = MOST_VECTOR_BYTES // (BYTES_PER_NUMBER * dimensions)
    if inputs > most:
        return f"a result holds {most} vectors of {dimensions} dimensions, the job has {inputs} inputs"
    return None

"""Chat models and embedding models in routing.yaml: they never stand in for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from worker.routing_file import Deployment, Kind, TaskRule, Tier
from worker.routing_load.yaml_nodes import Place

Aliases = Mapping[str, tuple[Deployment, ...]]
_CALLED: dict[Kind, str] = {"chat": "chat models", "embedding": "embedding models"}
_CHAT_TASK_KEYS = {"max_output_tokens": "limit", "requires_citations": "cite with"}


def check_aliases(places: Mapping[str, Sequence[Place]], aliases: Aliases) -> None:
    """An alias holds deployments of one kind."""
    for name, deployments in aliases.items():
        for number, deployment in enumerate(deployments):
            if deployment.kind != deployments[0].kind:
                places[name][number].fault(
                    f"'{deployment.name}' is one of the {_CALLED[deployment.kind]}, and this alias begins with "
                    f"{_CALLED[deployments[0].kind]}: give it an alias of its own"
                )


def check_tasks(places: Mapping[str, Place], tasks: Mapping[str, TaskRule], aliases: Aliases) -> None:
    """A task's aliases are of its kind; an embedding task's vectors can be compared, and be as long as it says."""
    for name, task in tasks.items():
        place = places[name]
        for alias, at in _named(place):
            _check_alias(at, alias, task, aliases)
        dimensions = place.entry("dimensions")
        if task.kind == "embedding":
            for key, verb in _CHAT_TASK_KEYS.items():
                at_key = place.entry(key)
                if at_key is not None:
                    at_key.fault(f"an embedding has no words to {verb}: leave it out")
            _check_vectors(place, task, aliases)
        elif dimensions is not None:
            dimensions.fault("only vectors have dimensions: add 'kind: embedding' to the task")


def check_tiers(places: Mapping[str, Place], tiers: Mapping[str, Tier], aliases: Aliases) -> None:
    """An alias is replaced by one of its kind."""
    for name, tier in tiers.items():
        replaced = places[name].entry("replace")
        for alias, to in tier.replace.items():
            at = replaced.entry(alias) if replaced else None
            kinds = [_kind(aliases, one) for one in (alias, to)]
            if at is not None and None not in kinds and kinds[0] != kinds[1]:
                at.fault(
                    f"'{to}' holds {_CALLED[kinds[1] or 'chat']}, '{alias}' does not: name one of its kind"
                )


def _check_alias(at: Place, alias: str, task: TaskRule, aliases: Aliases) -> None:
    kind = _kind(aliases, alias)
    if kind in (None, task.kind):
        return
    if task.kind == "embedding":
        at.fault(
            f"'{alias}' holds chat models and the task is an embedding: name an alias whose deployments have "
            "'kind: embedding'"
        )
    else:
        at.fault(
            f"'{alias}' holds embedding models: add 'kind: embedding' to the task, or name an alias of chat models"
        )


def _check_vectors(place: Place, task: TaskRule, aliases: Aliases) -> None:
    """Weight 0 is the last resort: its vectors may be another model's, for a plan never mixes the two."""
    first: Deployment | None = None
    asked = place.entry("dimensions")
    for alias in (task.default, *task.fallback):
        for deployment in aliases.get(alias, ()):
            limits = deployment.embedding
            if limits is None:
                continue
            if (
                asked
                and task.dimensions
                and not limits.min_dimensions <= task.dimensions <= limits.dimensions
            ):
                span = f"from {limits.min_dimensions} to {limits.dimensions}"
                span = str(limits.dimensions) if limits.min_dimensions == limits.dimensions else span
                asked.fault(f"found '{task.dimensions}', '{deployment.name}' gives {span}")
            if not deployment.weight:
                continue
            first = first or deployment
            if first.embedding and limits.vector_space != first.embedding.vector_space:
                place.fault(
                    f"vectors of '{deployment.name}' cannot be compared with those of '{first.name}': keep to one "
                    "model, or say that it is the same one by the same 'vector_space' in both"
                )


def _named(task: Place) -> Iterator[tuple[str, Place]]:
    """The aliases that a task names, each with its place."""
    for key in ("default", "fallback"):
        at = task.entry(key)
        if at is not None:
            for one in [at] if at.is_scalar() else at.items() if at.is_list() else []:
                if one.is_scalar():
                    yield str(one.node.value), one


def _kind(aliases: Aliases, alias: str) -> Kind | None:
    deployments = aliases.get(alias)
    return deployments[0].kind if deployments else None

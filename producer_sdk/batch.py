"""From what a product hands in to what a lane takes: jobs checked and packed, or refused with their sentence."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from producer_sdk.contract import (
    Document,
    ErrorCode,
    GenerationParams,
    Job,
    JobError,
    JobResult,
    Lane,
    Message,
    uuid7,
)
from producer_sdk.contract.envelope import BadMessage, LaneEntry, check_job, pack
from producer_sdk.lanes import PutReply

Outcome = Literal["accepted", "duplicate", "refused", "found"]
MOST_JOBS = 200
MOST_BYTES = 4 * 1024 * 1024


class JobFields(TypedDict, total=False):
    """The fields of a Job that have defaults, for editors and type checkers."""

    documents: list[Document] | list[dict[str, Any]]
    job_id: uuid.UUID | str
    feature: str
    priority: int
    lane: Lane
    params: GenerationParams | dict[str, Any]
    prompt_version: str | None
    run_id: str | None
    parent_run_id: str | None
    parent_job_id: str | None
    depth: int
    idempotency_key: str | None
    deadline: datetime | str | None
    not_before: datetime | str | None
    on_budget: Literal["reject", "park"]
    durability: Literal["default", "fsync"]
    stream: bool
    callback_url: str | None
    metadata: dict[str, str]


def embedding(inputs: str | list[str], dimensions: int | None, fields: JobFields) -> dict[str, Any]:
    """The fields of a job that asks for vectors; `dimensions` goes before one in `params`."""
    job: dict[str, Any] = {"inputs": inputs, **fields}
    if dimensions is not None:
        params = job.get("params") or {}
        given = params.model_dump(exclude_defaults=True) if isinstance(params, GenerationParams) else params
        job["params"] = {**given, "dimensions": dimensions} if isinstance(given, dict) else given
    return job


Messages = str | list[Message] | list[dict[str, Any]]


@dataclass(frozen=True)
class Receipt:
    """The fleet's answer to one job: accepted, duplicate of an earlier one, refused with its error, or found."""

    job_id: uuid.UUID
    outcome: Outcome
    error: JobError | None = None
    reply_to: str | None = None

    @property
    def refused(self) -> JobResult | None:
        """How a refused job ended: rejected, before anything was called."""
        if self.error is None:
            return None
        return JobResult(job_id=self.job_id, status="rejected", error=self.error)


@dataclass(frozen=True)
class Prepared:
    """One job on its way to the lanes: packed, or refused before anything is sent."""

    job_id: uuid.UUID
    entry: LaneEntry | None = None
    error: JobError | None = None
    fsync: bool = False


def no_batch(_job: Job) -> uuid.UUID | None:
    """The batch of a job that reserves when it runs."""
    return None


class Packer:
    """Checks, packs and signs the jobs of one process."""

    def __init__(self, *, reply_to: str, signing_key: bytes | None) -> None:
        self._reply_to = reply_to
        self._signing_key = signing_key

    def check(self, job: Job | Mapping[str, Any]) -> Job | Prepared:
        """The job itself, or what is wrong with it."""
        try:
            return job if isinstance(job, Job) else check_job(_with_messages(job))
        except BadMessage as error:
            return Prepared(_id_of(job), error=JobError.of(ErrorCode.INVALID_JOB, str(error)))

    def prepare(
        self,
        job: Job | Mapping[str, Any] | Prepared,
        *,
        batch_of: Callable[[Job], uuid.UUID | None] = no_batch,
    ) -> Prepared:
        """The job, packed; what is wrong with it becomes the error of this job alone."""
        checked = job if isinstance(job, Prepared) else self.check(job)
        if isinstance(checked, Prepared):
            return checked
        try:
            entry = pack(
                checked,
                reply_to=self._reply_to,
                signing_key=self._signing_key,
                batch_id=batch_of(checked),
            )
        except BadMessage as error:
            return Prepared(checked.job_id, error=JobError.of(ErrorCode.INVALID_JOB, str(error)))
        return Prepared(checked.job_id, entry, fsync=checked.durability == "fsync")

    def chunks(
        self,
        jobs: Iterable[Job | Mapping[str, Any] | Prepared],
        *,
        batch_of: Callable[[Job], uuid.UUID | None] = no_batch,
    ) -> Iterator[list[Prepared]]:
        """The jobs in order, packed, in pieces that are one round trip each."""
        chunk: list[Prepared] = []
        size = 0
        for job in jobs:
            prepared = self.prepare(job, batch_of=batch_of)
            chunk.append(prepared)
            size += len(prepared.entry.message) if prepared.entry else 0
            if len(chunk) == MOST_JOBS or size >= MOST_BYTES:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk


def receipt_of(prepared: Prepared, reply: PutReply | None, *, reply_to: str) -> Receipt:
    """The lane's answer in the producer's words; `reply` is None for a job that was refused before."""
    if reply is None:
        return Receipt(prepared.job_id, "refused", prepared.error)
    if reply.outcome == "queue_full":
        waiting = f"the tenant has {reply.depth} jobs waiting and its cap is {reply.cap}"
        sentence = f"{waiting}: submit again when some are done"
        return Receipt(
            prepared.job_id, "refused", JobError.of(ErrorCode.QUEUE_FULL, sentence, retry_after_s=1.0)
        )
    if reply.outcome == "conflict":
        sentence = (
            "the same idempotency key or job_id was used for another job: use a new one, or the same fields"
        )
        return Receipt(
            prepared.job_id, "refused", JobError.of(ErrorCode.INVALID_JOB, sentence, reason="conflict")
        )
    return Receipt(prepared.job_id, reply.outcome, reply_to=reply_to)


def _with_messages(job: Mapping[str, Any]) -> dict[str, Any]:
    """A str is one user message."""
    fields = dict(job)
    if isinstance(fields.get("messages"), str):
        fields["messages"] = [{"role": "user", "content": fields["messages"]}]
    return fields


def _id_of(job: Job | Mapping[str, Any]) -> uuid.UUID:
    """The id under which a refused job is answered: its own where it has one."""
    given = job.job_id if isinstance(job, Job) else job.get("job_id")
    try:
        return uuid.UUID(str(given)) if given else uuid7()
    except ValueError:
        return uuid7()

r"""The message on the wire: one line of JSON header, a newline, then the body (JSON, zstd above 4 KB).

The header carries what a lane needs without opening the body. The body is Celery's own task body
`[args, kwargs, embed]` with `kwargs = {"job": …}`, so that canvases and retries travel the same way.
docs/wire.md says it for producers in other languages; `schema.json` beside this file is the models' own schema.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import pydantic_core
from pydantic import Field, JsonValue, ValidationError

from producer_sdk.contract.ids import replay_id
from producer_sdk.contract.job import Frozen, Job, Lane
from producer_sdk.contract.sentences import explain

if sys.version_info >= (3, 14):  # pragma: no cover
    from compression import zstd
else:
    from backports import zstd

VERSION = 1
TASK_NAME = "fairlane.run_job"
MAX_BODY_BYTES = 8 * 1024 * 1024
# The window, up to 16 MB, is what a few bytes of a frame can make us allocate.
_DECOMPRESSION = {int(zstd.DecompressionParameter.window_log_max): 24}
COMPRESS_ABOVE_BYTES = 4 * 1024
BYTES_PER_TOKEN = 3.2
BATCH = "fairlane_batch"
LARGEST_INTEGER = 2**53 - 1  # Lua and JavaScript count in doubles
DEFAULT_OUTPUT_TOKENS = 256


class BadMessage(ValueError):
    """A message that this version cannot read; its text is a sentence for the producer, without content."""


class NewerVersion(BadMessage):
    """A message of a version that this worker does not know: a newer worker may."""

    def __init__(self, found: int) -> None:
        super().__init__(
            f"the message has version {found}, this worker reads version {VERSION}: upgrade the workers"
        )
        self.found = found


Whole = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]


class Header(Frozen):
    """The first line of a message; times are Unix milliseconds, `est_tokens` is [input, output]."""

    v: int
    job_id: str
    tenant: str
    task: str
    lane: Lane
    priority: int = Field(default=5, ge=0, le=9)
    est_tokens: tuple[Whole, Whole] = (0, DEFAULT_OUTPUT_TOKENS)
    due_ms: Whole = 0
    deadline_ms: Whole = 0
    sent_ms: Whole = 0
    reply_to: str | None = None
    encoding: str = "identity"
    size: int = Field(default=0, ge=0, le=MAX_BODY_BYTES)
    sha256: str = ""
    nonce: str = ""
    signature: str | None = None
    celery: dict[str, JsonValue] = {}

    @property
    def batch_id(self) -> UUID | None:
        """The tenant's batch that has reserved for this job.

        No part of the body, so that the same job in another batch is the same job; among Celery's headers, which older
        workers pass over.
        """
        try:
            return UUID(str(self.celery[BATCH])) if BATCH in self.celery else None
        except ValueError:
            return None


@dataclass(frozen=True)
class LaneEntry:
    """What `put` needs to know of a message, and the message as it will be handed out.

    `cost` is what fairness counts, input + 2 · output tokens; `tokens` what limits count, input + output.
    """

    job_id: str
    tenant: str
    lane: str
    message: bytes
    digest: str
    cost: int
    task: str = ""
    tokens: int = 0
    priority: int = 5
    due_ms: int = 0
    deadline_ms: int = 0


@dataclass(frozen=True)
class Envelope:
    """A decoded message: its header and the plain bytes of its body."""

    header: Header
    body: bytes = field(repr=False)


def estimate_tokens(job: Job) -> tuple[int, int]:
    """A dependency-free guess of (input, output) tokens, for fairness only; money uses a bound of its own."""
    size = sum(len(message.text.encode()) for message in job.messages)
    size += sum(len(document.text.encode()) for document in job.documents)
    size += sum(len(text.encode()) for text in job.inputs)
    output = 0 if job.inputs else job.params.max_output_tokens or DEFAULT_OUTPUT_TOKENS
    return int(size / BYTES_PER_TOKEN) + 1, output


def job_body(job: Job) -> bytes:
    """Celery's task body for a job that stands alone."""
    embed = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
    return b'[[],{"job":' + job.model_dump_json(exclude_defaults=True).encode() + b"}," + embed + b"]"


def pack(
    job: Job,
    body: bytes | None = None,
    *,
    celery: dict[str, Any] | None = None,
    due_ms: int = 0,
    reply_to: str | None = None,
    signing_key: bytes | None = None,
    batch_id: UUID | None = None,
) -> LaneEntry:
    """Write the message for a job; `body` is Celery's when the job is part of a canvas.

    Raises BadMessage when the plain body is over 8 MB.
    """
    plain = job_body(job) if body is None else body
    if len(plain) > MAX_BODY_BYTES:
        raise BadMessage(
            f"the job is {len(plain)} bytes, the limit is {MAX_BODY_BYTES}: send fewer or shorter documents"
        )
    estimated = estimate_tokens(job)
    digest = hashlib.sha256(plain).hexdigest()
    compressed = len(plain) > COMPRESS_ABOVE_BYTES
    if job.not_before:
        due_ms = max(due_ms, int(job.not_before.timestamp() * 1000))
    fields: dict[str, Any] = {
        "v": VERSION,
        "job_id": str(job.job_id),
        "tenant": job.tenant,
        "task": job.task,
        "lane": job.lane,
        "priority": job.priority,
        "est_tokens": estimated,
        "due_ms": due_ms,
        "deadline_ms": int(job.deadline.timestamp() * 1000) if job.deadline else 0,
        "sent_ms": time.time_ns() // 1_000_000,
        "reply_to": reply_to,
        "encoding": "zstd" if compressed else "identity",
        "size": len(plain),
        "sha256": digest,
        "celery": (celery or {}) | ({BATCH: str(batch_id)} if batch_id else {}),
    }
    if signing_key:
        fields["nonce"] = secrets.token_hex(8)
        fields["signature"] = sign(fields, signing_key)
    head = json.dumps(fields, separators=(",", ":")).encode()
    return LaneEntry(
        job_id=fields["job_id"],
        tenant=job.tenant,
        lane=job.lane,
        message=head + b"\n" + (zstd.compress(plain) if compressed else plain),
        digest=digest,
        cost=estimated[0] + 2 * estimated[1],
        task=job.task,
        tokens=sum(estimated),
        priority=job.priority,
        due_ms=due_ms,
        deadline_ms=fields["deadline_ms"],
    )


def unpack(message: bytes) -> Envelope:
    """Read a message. Raises NewerVersion, or BadMessage with a sentence that says what is wrong."""
    head, newline, body = message.partition(b"\n")
    try:
        fields = pydantic_core.from_json(head, allow_inf_nan=False)
    except ValueError as error:
        raise BadMessage("the message's first line is not JSON: see docs/wire.md") from error
    if not newline or not isinstance(fields, dict):
        raise BadMessage("the message is not a JSON header line and a body: see docs/wire.md")
    version = fields.get("v")
    if isinstance(version, int) and version > VERSION:
        raise NewerVersion(version)
    if version != VERSION:
        raise BadMessage(f"the message's version is missing or unknown: send {VERSION}")
    try:
        header = Header.model_validate(fields)
    except ValidationError as error:
        raise BadMessage(explain(error, "header", Header)) from error
    return Envelope(header, _plain_body(header, body))


def entry_of(message: bytes) -> LaneEntry:
    """The entry that `pack` made with this message, for a worker that puts a lost job back. Raises BadMessage."""
    envelope = unpack(message)
    header = envelope.header
    return LaneEntry(
        job_id=header.job_id,
        tenant=header.tenant,
        lane=header.lane,
        message=message,
        digest=header.sha256 or hashlib.sha256(envelope.body).hexdigest(),
        cost=header.est_tokens[0] + 2 * header.est_tokens[1],
        task=header.task,
        tokens=sum(header.est_tokens),
        priority=header.priority,
        due_ms=header.due_ms,
        deadline_ms=header.deadline_ms,
    )


def _plain_body(header: Header, body: bytes) -> bytes:
    if header.encoding not in ("identity", "zstd"):
        raise BadMessage("header.encoding: send identity or zstd")
    plain = _decompressed(body) if header.encoding == "zstd" else body
    if len(plain) > MAX_BODY_BYTES:
        raise BadMessage(f"the body is over {MAX_BODY_BYTES} bytes: send fewer or shorter documents")
    if header.size and header.size != len(plain):
        raise BadMessage("the body is not as long as header.size says: it was cut or changed on the way")
    if header.sha256 and hashlib.sha256(plain).hexdigest() != header.sha256:
        raise BadMessage("the body does not match header.sha256: it was damaged or changed on the way")
    return plain


def _decompressed(body: bytes) -> bytes:
    """Never more than the limit and one byte, and never with a window that a small frame has no need of."""
    try:
        decompressor = zstd.ZstdDecompressor(options=_DECOMPRESSION)
        plain = decompressor.decompress(body, max_length=MAX_BODY_BYTES + 1)
    except zstd.ZstdError as error:
        raise BadMessage("the body is not zstd, though header.encoding says so") from error
    whole = decompressor.eof and not decompressor.unused_data
    if not whole and len(plain) <= MAX_BODY_BYTES:
        raise BadMessage("the body is not one whole zstd frame: it was cut or changed on the way")
    return plain


def read_job(envelope: Envelope) -> Job:
    """The job in a message's body. Raises BadMessage with a sentence that names the field."""
    return job_in(envelope.body)


def job_in(body: bytes) -> Job:
    """The job in Celery's task body. Raises BadMessage with a sentence that names the field."""
    try:
        fields = pydantic_core.from_json(body, allow_inf_nan=False)[1]["job"]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise BadMessage('the body is not [args, {"job": {…}}, embed] in JSON: see docs/wire.md') from error
    return check_job(fields)


def replay_of(message: bytes, *, now: datetime, key: bytes | None = None) -> Job:
    """The job of a dead letter, once more, under an id of its own and alone: its canvas went on without it.

    Raises BadMessage where the message cannot be read, or, with a key, where it was not signed with it: whoever replays
    a job signs it anew.
    """
    envelope = unpack(message)
    job, header = read_job(envelope), envelope.header
    if (job.tenant, job.task, job.lane) != (header.tenant, header.task, header.lane):
        raise BadMessage("the message's header names another tenant, task or lane than its job")
    if key and not is_signed(header, key):
        raise BadMessage("the job is not signed with the fleet's key")
    return replayed(job, now=now)


def replayed(job: Job, *, now: datetime) -> Job:
    """The job once more, as a human sends it: under an id that is the same for each repetition of this replay."""
    metadata = {**job.metadata, "replay_of": str(job.job_id)}
    changes: dict[str, Any] = {"job_id": replay_id(job.job_id), "idempotency_key": None, "metadata": metadata}
    if job.deadline and job.deadline <= now:
        changes["deadline"] = None
    return job.model_copy(update=changes)


def check_job(fields: Any) -> Job:
    """A job from plain data. Raises BadMessage with a sentence that names the field."""
    try:
        return Job.model_validate(fields)
    except ValidationError as error:
        raise BadMessage(explain(error, "job", Job)) from error


def sign(fields: dict[str, Any], key: bytes) -> str:
    """HMAC-SHA256, in hex, over the length-prefixed parts that decide who pays for what."""
    names = ("v", "job_id", "tenant", "task", "lane", "nonce", "sent_ms", "sha256")
    parts = [str(fields[name]).encode() for name in names]
    signed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


def is_signed(header: Header, key: bytes) -> bool:
    """Whether the header was signed with this key and carries the hash of its body."""
    expected = sign(header.model_dump(), key).encode()
    return bool(header.sha256) and hmac.compare_digest(expected, (header.signature or "").encode())

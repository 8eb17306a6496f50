"""The language that producers and workers speak: models, money, error codes, messages (wire version 1)."""

from producer_sdk.contract.codes import BUDGET_REASONS, MEANINGS, CodeMeaning, ErrorCode
from producer_sdk.contract.crossing import Crossing, Straight
from producer_sdk.contract.ids import created_at, job_id_for_key, uuid7
from producer_sdk.contract.job import (
    LANES,
    Document,
    GenerationParams,
    ImagePart,
    Job,
    Lane,
    Message,
    TextPart,
    Tool,
    ToolCall,
)
from producer_sdk.contract.money import PICO_PER_USD, ceil_pico, to_pico, to_usd, usd_text
from producer_sdk.contract.result import (
    AttemptSummary,
    CacheTier,
    Citation,
    Finding,
    JobError,
    JobResult,
    JobStatus,
    Usage,
)
from producer_sdk.contract.stream import StreamEvent, read_event
from producer_sdk.contract.vectors import MOST_VECTOR_BYTES, Vectors

__all__ = [
    "BUDGET_REASONS",
    "LANES",
    "MEANINGS",
    "MOST_VECTOR_BYTES",
    "PICO_PER_USD",
    "AttemptSummary",
    "CacheTier",
    "Citation",
    "CodeMeaning",
    "Crossing",
    "Document",
    "ErrorCode",
    "Finding",
    "GenerationParams",
    "ImagePart",
    "Job",
    "JobError",
    "JobResult",
    "JobStatus",
    "Lane",
    "Message",
    "Straight",
    "StreamEvent",
    "TextPart",
    "Tool",
    "ToolCall",
    "Usage",
    "Vectors",
    "ceil_pico",
    "created_at",
    "job_id_for_key",
    "read_event",
    "to_pico",
    "to_usd",
    "usd_text",
    "uuid7",
]

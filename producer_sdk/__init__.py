"""What a product installs to submit LLM jobs to a Fairlane fleet: `from producer_sdk import Fleet`.

Canvases (chains, groups, chords) need Celery and are in `producer_sdk.canvas`.
"""

from producer_sdk.async_client import AsyncFleet
from producer_sdk.client import Fleet
from producer_sdk.contract import (
    Citation,
    Document,
    ErrorCode,
    GenerationParams,
    Job,
    JobError,
    JobResult,
    Message,
    StreamEvent,
    Tool,
    ToolCall,
    Usage,
)
from producer_sdk.contract.control import UsageLine, UsageReport
from producer_sdk.errors import (
    BrokerUnavailable,
    FleetError,
    JobCancelled,
    JobEnded,
    JobFailed,
    JobRejected,
    ResultTimeout,
    ResultUnreadable,
    SettingsError,
    SubmitInterrupted,
    UnknownJob,
)
from producer_sdk.handle import AsyncBatch, AsyncJobHandle, Batch, JobHandle
from producer_sdk.settings import FleetSettings

__all__ = [
    "AsyncBatch",
    "AsyncFleet",
    "AsyncJobHandle",
    "Batch",
    "BrokerUnavailable",
    "Citation",
    "Document",
    "ErrorCode",
    "Fleet",
    "FleetError",
    "FleetSettings",
    "GenerationParams",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobError",
    "JobFailed",
    "JobHandle",
    "JobRejected",
    "JobResult",
    "Message",
    "ResultTimeout",
    "ResultUnreadable",
    "SettingsError",
    "StreamEvent",
    "SubmitInterrupted",
    "Tool",
    "ToolCall",
    "UnknownJob",
    "Usage",
    "UsageLine",
    "UsageReport",
]

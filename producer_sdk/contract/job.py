"""What a producer asks for: a job, its messages, documents and parameters (wire contract, version 1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticSerializationError

from producer_sdk.contract.ids import job_id_for_key, uuid7

TenantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
TaskName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Lane = Literal["interactive", "batch"]
LANES: tuple[Lane, ...] = ("interactive", "batch")
MOST_INPUTS = 2_048
MOST_DIMENSIONS = 65_536


class Frozen(BaseModel):
    """Base of every model on the wire: immutable, unknown fields refused, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Part(Frozen):
    """A part of a message. It is known by its `type`, which is therefore written though it is a default."""

    type: str

    @model_serializer(mode="wrap")
    def _with_type(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type, **write(self)}


class TextPart(Part):
    """A piece of text in a message."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(Part):
    """An image, by https URL or as a data: URL in base64."""

    type: Literal["image"] = "image"
    url: Annotated[str, StringConstraints(pattern=r"^(https://|data:image/)")]


class ToolCall(Frozen):
    """A call that the model asked for; `arguments` is the parsed JSON object.

    `signature` is the model's own mark of the thoughts behind it (Gemini's thoughtSignature): send it back as it came.
    """

    id: str
    name: str
    arguments: dict[str, JsonValue] = {}
    signature: str | None = None


class Tool(Frozen):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, JsonValue] = {}


class Message(Frozen):
    """One turn. `cache_key` says: this segment is static under this key (`cacheKey` is accepted)."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] = ""
    name: str | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    cache_key: ShortText | None = Field(
        default=None,
        validation_alias=AliasChoices("cache_key", "cacheKey"),
        serialization_alias="cache_key",
    )
    cache_ttl: Literal["5m", "30m", "1h", "24h"] = "5m"

    @property
    def text(self) -> str:
        """The message's text, its parts joined by newlines."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if not self.content and not self.tool_calls and self.role != "tool":
            raise ValueError("a message needs content, or tool_calls when the assistant speaks")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a tool message needs the tool_call_id that it answers")
        return self


class Document(Frozen):
    """Context for RAG: always untrusted, whoever put it there."""

    id: ShortText
    text: str
    title: str | None = None
    url: str | None = None
    cache_key: ShortText | None = None


class GenerationParams(Frozen):
    """How to generate. `max_output_tokens` left out means: what the task or tier allows.

    `dimensions` is for embedding tasks alone: how many numbers each vector shall have; left out: as the task says.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    stop: list[str] = []
    seed: int | None = None
    tools: list[Tool] = []
    tool_choice: str | None = None
    response_schema: dict[str, JsonValue] | None = None
    dimensions: Annotated[int, Field(gt=0, le=MOST_DIMENSIONS)] | None = None


class Job(Frozen):
    """One unit of work for one tenant. An idempotency key decides the job_id: same key, same job.

    It has `messages` to answer, or, where its task is an embedding, `inputs`: each becomes one vector.
    """

    tenant: TenantName
    task: TaskName
    inputs: Annotated[
        list[Annotated[str, StringConstraints(min_length=1)]], Field(max_length=MOST_INPUTS)
    ] = []
    messages: Annotated[list[Message], Field(max_length=1000, validate_default=True)] = []
    documents: Annotated[list[Document], Field(max_length=1000)] = []
    job_id: UUID = Field(default_factory=uuid7)
    feature: ShortText = ""
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    lane: Lane = "interactive"
    params: GenerationParams = GenerationParams()
    prompt_version: ShortText | None = None
    run_id: ShortText | None = None
    parent_run_id: ShortText | None = None
    parent_job_id: ShortText | None = None
    depth: Annotated[int, Field(ge=0, le=1000)] = 0
    idempotency_key: ShortText | None = None
    deadline: AwareDatetime | None = None
    not_before: AwareDatetime | None = None
    on_budget: Literal["reject", "park"] = "reject"
    durability: Literal["default", "fsync"] = "default"
    stream: bool = False
    callback_url: Annotated[str, StringConstraints(pattern=r"^https?://")] | None = None
    metadata: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, fields: Any) -> Any:
        """A str is one user message; the feature is the task's name unless said; a key names the job."""
        if not isinstance(fields, dict):
            return fields
        filled = dict(fields)
        if isinstance(filled.get("messages"), str):
            filled["messages"] = [{"role": "user", "content": filled["messages"]}]
        if isinstance(filled.get("inputs"), str):
            filled["inputs"] = [filled["inputs"]]
        if not filled.get("feature") and filled.get("task"):
            filled["feature"] = filled["task"]
        tenant, key = filled.get("tenant"), filled.get("idempotency_key")
        if isinstance(tenant, str) and isinstance(key, str) and key:
            filled["job_id"] = job_id_for_key(tenant, key)
        return filled

    @field_validator("messages")
    @classmethod
    def _asks_one_thing(cls, messages: list[Message], info: ValidationInfo) -> list[Message]:
        inputs = info.data.get("inputs")
        if not messages and inputs == []:
            raise ValueError("give the job messages, or inputs where its task is an embedding")
        if messages and inputs:
            raise ValueError("a job has messages or inputs, not both")
        return messages

    @model_validator(mode="after")
    def _inputs_stand_alone(self) -> Job:
        """What an embedding has no use for is refused, not passed over."""
        if self.params.dimensions and not self.inputs:
            raise ValueError(
                "params.dimensions is the length of vectors: give the job inputs, or leave it out"
            )
        if not self.inputs:
            return self
        other = self.params.model_dump(exclude={"dimensions"}, exclude_defaults=True)
        if other:
            raise ValueError(f"a job with inputs has no params but dimensions: leave out {', '.join(other)}")
        if self.documents or self.stream:
            what = (
                "documents: each text is an input" if self.documents else "stream: its vectors come at once"
            )
            raise ValueError(f"a job with inputs has no {what}")
        return self

    @model_validator(mode="after")
    def _can_be_written(self) -> Job:
        """Python's strings may hold lone surrogates, JSON in UTF-8 may not."""
        try:
            self.model_dump_json()
        except PydanticSerializationError as error:
            raise ValueError("the job's text should be Unicode without lone surrogates") from error
        return self

"""Which vocabulary and chat format a deployment has: tables of what is public, and generous figures for the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from worker.routing_file import Deployment, Tokenizer


@dataclass(frozen=True)
class ChatFormat:
    """What stands around the texts of a request, in tokens at most.

    `request`: once, the beginning of the answer and a system prompt that the template brings along included;
    `message`: each one, its role included; `assistant`, `tool_result`: more where it is theirs; `before`: text of the
    template that a message's text is tokenized together with; `part`: each text of a message after its first; `call`:
    each tool call of an assistant; `tools`, `tool`, `schema`: around what is counted of the tools and the answer's
    schema, as JSON. `plain_json`: it is known to stay on one line, unescaped, and results of tools stay as they are.
    """

    vocabulary: Tokenizer = "bytes"
    request: int = 64
    message: int = 16
    assistant: int = 0
    tool_result: int = 0
    before: str = ""
    name: int = 4
    part: int = 16
    call: int = 32
    tools: int = 1024
    tool: int = 32
    schema: int = 1024
    image: int = 8192  # above what the models of routing.yaml count for the largest image they take
    plain_json: bool = False
    signed: bool = False  # tool calls go back with the model's signature


UNKNOWN = ChatFormat()
# Gemini's tokenizer is not at hand. An image is 1,120 tokens unless told otherwise and 2,240 at most (its page on media
# resolution, read 2026-11-24), before Gemini 3 258 a tile of 768 pixels. What a signature counts is not public.
GEMINI = replace(UNKNOWN, signed=True)

# OpenAI's cookbook, "How to count tokens with tiktoken" (read 2026-11-24): 3 a message and its role, 1 a name, 3 for
# the beginning of the answer; the oldest gpt-3.5 took 4 a message. One more of each here. Tools take 12 and
# fewer tokens than their JSON has; what newer models are told about them is not public.
OPENAI = ChatFormat(
    vocabulary="o200k", request=4, message=5, name=2, tools=96, tool=16, schema=128, plain_json=True
)
OPENAI_CL100K = replace(OPENAI, vocabulary="cl100k")

# ChatML, "<|im_start|>role\ntext<|im_end|>\n"; 2.5 brings a system prompt, 3 an empty thought before an answer; tool
# results stand inside tags (their chat templates, read 2026-11-24).
QWEN_3 = ChatFormat(
    vocabulary="qwen3", request=7, message=3, assistant=8, tool_result=16,
    before="{role}\n", tools=144, tool=24, schema=256, plain_json=True,
)  # fmt: skip
QWEN_2_5 = replace(QWEN_3, request=40)

# OpenAI's own models at OpenAI's own hosts, after the table of tiktoken 0.14.0 (2026-11): elsewhere, such a name may
# stand for anything. Models that search add what they found.
_AT_OPENAI = (
    (re.compile(r"(?:ft:)?(?:chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|o1|o3|o4-mini)(?:[-:]|$)"), OPENAI),
    (re.compile(r"(?:ft:)?gpt-5(?:[-.:]|$)"), OPENAI),
    (re.compile(r"(?:ft:)?(?:gpt-4|gpt-3\.5-turbo)(?:[-:]|$)"), OPENAI_CL100K),
)
_SEARCHES = re.compile(r"search|research")
# Models with public weights, wherever they are served: by their size, for a name without one may stand for another
# vocabulary (Qwen3.5 has its own).
_ANYWHERE = (
    (re.compile(r"qwen3[-:](?:0\.6|1\.7|4|8|14|30|32|235)b(?:-|$)"), QWEN_3),
    (re.compile(r"qwen2\.5[-:](?:0\.5|1\.5|3|7|14|32|72)b(?:-|$)"), QWEN_2_5),
)
# System prompts that templates bring along, where they are longer than 64 tokens: rounded up (templates as of 2026-11).
_PROMPTS = (
    (re.compile(r"gpt-oss"), 256),
    (re.compile(r"(?:mi|mag|dev|mini|code)stral"), 2048),
    (re.compile(r"command-[ra]|c4ai"), 1024),
    (re.compile(r"smollm3|apriel|seed-oss|granite"), 512),
)
_DEAR_IMAGES = ((re.compile(r"gpt-4o-mini"), 49_152),)  # 2833 and 5667 a tile, of which there are 8 at most


def chat_format(deployment: Deployment) -> ChatFormat:
    """The format of a deployment. `tokenizer` of routing.yaml goes before a known name, with generous figures."""
    name = deployment.model.lower().rsplit("/", 1)[-1]
    chat = _known(name, deployment)
    if deployment.tokenizer not in (None, chat.vocabulary):
        chat = replace(UNKNOWN, vocabulary=deployment.tokenizer, signed=chat.signed)
    return replace(
        chat,
        request=max(chat.request, _most(_PROMPTS, name)),
        image=max(chat.image, _most(_DEAR_IMAGES, name)),
    )


def _most(table: tuple[tuple[re.Pattern[str], int], ...], name: str) -> int:
    return max((tokens for pattern, tokens in table if pattern.search(name)), default=0)


def without_vocabulary(chat: ChatFormat) -> ChatFormat:
    """The format where its vocabulary is not at hand: by bytes, with what its template brings along."""
    return replace(UNKNOWN, request=max(chat.request, UNKNOWN.request), image=chat.image, signed=chat.signed)


def _known(name: str, deployment: Deployment) -> ChatFormat:
    if deployment.provider.dialect == "gemini":
        return GEMINI
    tables = _ANYWHERE + (_AT_OPENAI if _is_openai(deployment) and not _SEARCHES.search(name) else ())
    return next((chat for pattern, chat in tables if pattern.match(name)), UNKNOWN)


def _is_openai(deployment: Deployment) -> bool:
    provider = deployment.provider
    host = urlsplit(provider.base_url).hostname or ""
    return provider.base_url_env is None and ("." + host).endswith(".api.openai.com")

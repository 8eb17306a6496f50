"""What a request really takes, by the sources of worker/routing/chat_formats.py: for tests and the benchmark.

Texts are counted by tiktoken with the vocabularies' own ranks; the request is the one that the adapter sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import quicktok
import tiktoken
from quicktok import _import_core as patterns

from tests.worker.job_runs import card
from worker.job_run import Attempt, JobRun, PlannedCall
from worker.providers.openai import OpenAI
from worker.routing_file import Deployment

Count = Callable[[str], int]
VOCABULARIES = {
    "o200k": ("o200k_base", patterns.O200K_PAT, 199_998),
    "cl100k": ("cl100k_base", patterns.CL100K_PAT_POSSESSIVE, 100_256),
    "qwen3": ("qwen3", patterns.QWEN_PAT, 151_643),
}
QWEN_ADDED = re.compile(
    r"(<\|(?:im_start|im_end|endoftext)\|>|</?(?:think|tool_call|tool_response)>)"
)  # one token each, wherever they stand
QWEN_TOOLS = 84  # what its template says about tools, 81 tokens, and what their seams with the tools may add


@cache
def ranks(vocabulary: str) -> dict[bytes, int]:
    """Every token of a vocabulary, with its rank."""
    name, _pattern, size = VOCABULARIES[vocabulary]
    encoding = quicktok.get_encoding(name)
    return {bytes(encoding.decode_single_token_bytes(rank)): rank for rank in range(size)}


@cache
def reference(vocabulary: str) -> Count:
    """Counts a text as tiktoken does, the names of special tokens read as text."""
    name, pattern, _size = VOCABULARIES[vocabulary]
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks(vocabulary), special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def body_of(job_run: JobRun, deployment: Deployment) -> dict[str, Any]:
    """The request that the adapter sends."""
    attempt = Attempt(job_run, PlannedCall(deployment, "any", card(), 0), number=1, timeout_s=1)
    request = OpenAI().request(attempt, base_url=deployment.provider.base_url, key=None)
    body: dict[str, Any] = json.loads(request.body)
    return body


def openai_tokens(body: dict[str, Any], count: Count, *, function: int = 7) -> int:
    """OpenAI's cookbook: messages, names and tools. `function`: 7 a tool, 10 for gpt-4 and gpt-3.5."""
    total = 3
    for message in body["messages"]:
        total += 3 + count(message["role"]) + sum(count(text) for text in _texts(message))
        total += 1 + count(message["name"]) if "name" in message else 0
        calls = (call["function"] for call in message.get("tool_calls", ()))
        total += sum(count(call["name"]) + count(call["arguments"]) for call in calls)
    tools = [tool["function"] for tool in body.get("tools", ())]
    return total + sum(function + _function_tokens(tool, count) for tool in tools) + (12 if tools else 0)


def _function_tokens(tool: dict[str, Any], count: Count) -> int:
    total = count(f"{tool['name']}:{tool.get('description', '').rstrip('.')}")
    properties = tool["parameters"].get("properties", {})
    for name, about in properties.items():
        choices = about.get("enum")
        total += 3 + (sum(3 + count(str(choice)) for choice in choices) - 3 if choices else 0)
        total += count(f"{name}:{about.get('type', '')}:{about.get('description', '').rstrip('.')}")
    return total + (3 if properties else 0)


def qwen_tokens(body: dict[str, Any], count: Count, *, thinking: bool = True) -> int:
    """The prompt that Qwen3's chat template makes of a request, and what its tokenizer makes of that."""
    pieces = QWEN_ADDED.split(qwen_prompt(body, thinking=thinking))
    return (QWEN_TOOLS if body.get("tools") else 0) + sum(
        1 if number % 2 else count(piece) for number, piece in enumerate(pieces)
    )


def qwen_prompt(body: dict[str, Any], *, thinking: bool) -> str:
    """Tools stand in the system message, results of tools in one user message for those that follow each other."""
    messages, prompt = list(body["messages"]), ""
    if tools := body.get("tools"):
        system = _text(messages.pop(0)) + "\n\n" if messages[0]["role"] == "system" else ""
        listed = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
        prompt = f"<|im_start|>system\n{system}{listed}<|im_end|>\n"
    asked = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=-1)
    for number, message in enumerate(messages):
        role, text = message["role"], _text(message)
        if role == "tool":
            first = not number or messages[number - 1]["role"] != "tool"
            last = number + 1 == len(messages) or messages[number + 1]["role"] != "tool"
            prompt += "<|im_start|>user" if first else ""
            prompt += f"\n<tool_response>\n{text}\n</tool_response>" + ("<|im_end|>\n" if last else "")
            continue
        if role == "assistant":
            thought = number > asked and number + 1 == len(messages)
            text = ("<think>\n\n</think>\n\n" if thought else "") + text + _qwen_calls(message)
        prompt += f"<|im_start|>{role}\n{text}<|im_end|>\n"
    return prompt + "<|im_start|>assistant\n" + ("" if thinking else "<think>\n\n</think>\n\n")


def _qwen_calls(message: dict[str, Any]) -> str:
    calls = (call["function"] for call in message.get("tool_calls", ()))
    return "".join(
        f'\n<tool_call>\n{{"name": "{call["name"]}", "arguments": {call["arguments"]}}}\n</tool_call>'
        for call in calls
    )


def _texts(message: dict[str, Any]) -> list[str]:
    content = message["content"] or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part["text"] for part in parts if part["type"] == "text"]


def _text(message: dict[str, Any]) -> str:
    return "".join(_texts(message))

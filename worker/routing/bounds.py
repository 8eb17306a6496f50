"""Bounds on a job's input for each of its deployments: once a chat format, long texts in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from worker.job_run import JobRun
from worker.routing.chat_formats import ChatFormat, chat_format, without_vocabulary
from worker.routing.embedding_bounds import UNKNOWN, InputFormat, input_format, inputs_bound
from worker.routing.tokens import Count, InputBound, input_bound
from worker.routing_file import Deployment, Tokenizer

LARGE_CHARACTERS = 20_000  # some 4 ms in the slowest script, 0.5 ms in English: more goes to a thread


class InputBounds:
    """Bounds by chat format; where its vocabulary is not at hand, by bytes."""

    def __init__(self, counts: Mapping[Tokenizer, Count]) -> None:
        """`counts`: what counts a text, by vocabulary."""
        self._counts = counts
        self._formats: dict[str, ChatFormat] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokens")

    async def of(self, job_run: JobRun, deployments: Iterable[Deployment]) -> dict[str, InputBound]:
        """A bound for each of the deployments, by name."""
        if job_run.job.inputs:
            return await self._of_inputs(job_run.job.inputs, deployments)
        chats = {deployment.name: self._format(deployment) for deployment in deployments}
        bound = partial(_bounds, job_run, set(chats.values()), self._counts)
        if _characters(job_run) <= LARGE_CHARACTERS:
            found = bound()
        else:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, bound)
        return {name: found[chat] for name, chat in chats.items()}

    async def _of_inputs(
        self, inputs: Sequence[str], deployments: Iterable[Deployment]
    ) -> dict[str, InputBound]:
        formats = {deployment.name: self._input_format(deployment) for deployment in deployments}
        bound = partial(_inputs_bounds, inputs, set(formats.values()), self._counts)
        if sum(map(len, inputs)) <= LARGE_CHARACTERS:
            found = bound()
        else:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, bound)
        return {name: found[chosen] for name, chosen in formats.items()}

    def _input_format(self, deployment: Deployment) -> InputFormat:
        chosen = input_format(deployment)
        return chosen if chosen.vocabulary == "bytes" or chosen.vocabulary in self._counts else UNKNOWN

    def _format(self, deployment: Deployment) -> ChatFormat:
        chat = self._formats.get(deployment.name)
        if chat is None:
            chat = chat_format(deployment)
            known = chat.vocabulary == "bytes" or chat.vocabulary in self._counts
            chat = self._formats[deployment.name] = chat if known else without_vocabulary(chat)
        return chat


def _bounds(
    job_run: JobRun, chats: Iterable[ChatFormat], counts: Mapping[Tokenizer, Count]
) -> dict[ChatFormat, InputBound]:
    messages, params = job_run.messages, job_run.job.params
    return {
        chat: input_bound(messages, params, chat=chat, count=counts.get(chat.vocabulary)) for chat in chats
    }


def _inputs_bounds(
    inputs: Sequence[str], formats: Iterable[InputFormat], counts: Mapping[Tokenizer, Count]
) -> dict[InputFormat, InputBound]:
    return {chosen: inputs_bound(inputs, chosen, counts.get(chosen.vocabulary)) for chosen in formats}


def _characters(job_run: JobRun) -> int:
    params = job_run.job.params
    total = sum(len(message.text) for message in job_run.messages)
    total += sum(len(call.model_dump_json()) for message in job_run.messages for call in message.tool_calls)
    return total + (len(params.model_dump_json()) if params.tools or params.response_schema else 0)

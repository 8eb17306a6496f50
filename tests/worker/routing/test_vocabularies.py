"""Counting by vocabulary: as the reference counts, never below it, in bounded time, and by bytes without the extra."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer_sdk.contract import GenerationParams, Message, Tool, ToolCall
from tests.worker.job_runs import deployment, job_of, run_of
from tests.worker.routing import chat_truth
from tests.worker.routing.counted_texts import texts
from worker.routing import vocabularies
from worker.routing.chat_formats import OPENAI, OPENAI_CL100K, QWEN_2_5, QWEN_3
from worker.routing.tokens import has_unsettled, input_bound, most_bytes
from worker.routing_file import Provider

AT_OPENAI = Provider("openai", "openai", "https://api.openai.com/v1")
MODELS = {
    "o200k": deployment("gpt-4o", provider=AT_OPENAI),
    "cl100k": deployment("gpt-4", provider=AT_OPENAI),
    "qwen3": deployment("qwen3-8b"),
}
COUNTS = vocabularies.load(MODELS.values())


@pytest.fixture(scope="module", autouse=True)
def references() -> None:
    """Made before Hypothesis takes the time of an example."""
    for vocabulary in COUNTS:
        chat_truth.reference(vocabulary)


@pytest.mark.parametrize("vocabulary", sorted(COUNTS))
@given(text=texts)
@example(text="\U000323b0:A")  # a letter since Unicode 17, which not every tokenizer knows
def test_a_count_is_the_references_and_bytes_where_a_tokenizer_may_read_otherwise(vocabulary, text):
    truth = chat_truth.reference(vocabulary)
    if has_unsettled(text):
        assert COUNTS[vocabulary](text) == most_bytes(text) >= truth(text)
    elif vocabulary == "qwen3" and not unicodedata.is_normalized("NFC", text):
        composed = unicodedata.normalize("NFC", text)
        assert COUNTS[vocabulary](text) == most_bytes(text) >= max(truth(text), truth(composed))
    else:
        assert COUNTS[vocabulary](text) == truth(text) <= most_bytes(text)


@pytest.mark.parametrize("vocabulary", sorted(COUNTS))
def test_every_token_is_what_its_bytes_merge_to(vocabulary):
    """What quicktok's way of counting rests on. Llama 3's vocabulary has 588 tokens that are not."""
    ranks = chat_truth.ranks(vocabulary)
    odd = [token for token in ranks if len(token) > 1 and len(merged(token, ranks)) > 1]
    assert odd == []


def merged(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Byte pair encoding in its plainest form."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while True:
        pairs = [(ranks.get(left + right), at) for at, (left, right) in enumerate(pairwise(parts))]
        known = [pair for pair in pairs if pair[0] is not None]
        if not known:
            return parts
        at = min(known)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


roles = st.sampled_from(["system", "user", "assistant", "tool"])
calls = st.builds(
    ToolCall,
    id=st.just("call_1"),
    name=st.sampled_from(["look_up", "f"]),
    arguments=st.dictionaries(
        texts, st.one_of(texts, st.integers(), st.lists(texts, max_size=2)), max_size=2
    ),
)


@st.composite
def messages(draw):
    role = draw(roles)
    content = draw(texts.filter(bool))
    return Message(
        role=role,
        content=content,
        name=draw(st.sampled_from([None, "Ann"])),
        tool_calls=draw(st.lists(calls, max_size=2)) if role == "assistant" else [],
        tool_call_id="call_1" if role == "tool" else None,
    )


properties = st.dictionaries(
    st.sampled_from(["city", "unit", "größe"]),
    st.fixed_dictionaries(
        {"type": st.just("string"), "description": texts}, optional={"enum": st.lists(texts, max_size=3)}
    ),
)
tools = st.builds(
    Tool,
    name=st.sampled_from(["look_up", "get_weather"]),
    description=texts,
    parameters=st.builds(lambda inside: {"type": "object", "properties": inside}, properties),
)
jobs = st.builds(
    lambda said, tools: job_of(messages=said, params=GenerationParams(tools=tools)),
    st.lists(messages(), min_size=1, max_size=4),
    st.lists(tools, max_size=2),
)


def highest(job, chat):
    return input_bound(job.messages, job.params, chat=chat, count=COUNTS[chat.vocabulary]).highest


@given(job=jobs)
def test_no_request_to_openai_takes_more_than_its_bound(job):
    for chat, function in ((OPENAI, 7), (OPENAI_CL100K, 10)):
        body = chat_truth.body_of(run_of(job), MODELS[chat.vocabulary])
        truth = chat_truth.openai_tokens(body, chat_truth.reference(chat.vocabulary), function=function)
        assert highest(job, chat) >= truth


@given(job=jobs, thinking=st.booleans())
def test_no_prompt_of_qwen_takes_more_than_its_bound(job, thinking):
    body = chat_truth.body_of(run_of(job), MODELS["qwen3"])
    truth = chat_truth.qwen_tokens(body, chat_truth.reference("qwen3"), thinking=thinking)
    assert highest(job, QWEN_3) >= truth


def test_no_real_text_takes_more_than_its_bound(shared_data: Path):
    with (shared_data / "injection" / "dev.jsonl").open(encoding="utf-8") as file:
        found = [json.loads(line)["text"] for line in islice(file, 0, None, 20)]
    with (shared_data / "celery_docs" / "documents.jsonl").open(encoding="utf-8") as file:
        found += [json.loads(line)["text"] for line in islice(file, 0, None, 8)]
    for vocabulary, count in COUNTS.items():
        truth = chat_truth.reference(vocabulary)
        assert [text for text in found if count(text) < truth(text)] == []
        assert [text for text in found if most_bytes(text) < truth(text)] == []


def test_qwen_2_5_brings_a_system_prompt():
    system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    body = {"messages": [{"role": "system", "content": system}, {"role": "user", "content": "hello"}]}
    truth = chat_truth.qwen_tokens(body, chat_truth.reference("qwen3"))
    assert highest(job_of("hello"), QWEN_2_5) >= truth


@pytest.mark.parametrize("vocabulary", sorted(COUNTS))
@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, " " * 1_000_000, "\n" * 1_000_000, "中" * 500_000, "😀" * 500_000, "e\u0301" * 300_000,
     "\u0301" * 50_000 + "\u0316" * 50_000, "<|endoftext|>" * 70_000, "1" * 1_000_000, "\ufdfa" * 200_000],
    ids=range(10),
)  # fmt: skip
def test_a_long_run_of_anything_is_counted_in_time(vocabulary, text):
    before = time.perf_counter()
    assert 0 < COUNTS[vocabulary](text) <= most_bytes(text)
    assert time.perf_counter() - before < 3


@pytest.mark.parametrize("vocabulary", sorted(COUNTS))
def test_a_lone_surrogate_is_counted_by_its_bytes(vocabulary):
    assert COUNTS[vocabulary]("a\ud800") == 4


def test_only_the_vocabularies_of_these_deployments_are_loaded():
    assert sorted(COUNTS) == ["cl100k", "o200k", "qwen3"]
    assert list(vocabularies.load([MODELS["qwen3"], deployment("any")])) == ["qwen3"]
    assert vocabularies.load([deployment("any"), replace(MODELS["cl100k"], tokenizer="bytes")]) == {}
    assert vocabularies.uncounted(MODELS.values()) == []


def test_importing_the_worker_loads_no_vocabulary():
    program = "import sys, worker.assembly, quicktok; sys.exit(len(quicktok._CACHE))"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_without_the_extra_there_is_nothing_to_count_with_and_it_is_said():
    program = """if True:
        import sys
        sys.modules["quicktok"] = None  # as if it were not installed
        from worker.routing import vocabularies
        from tests.worker.job_runs import deployment
        MODEL = deployment("qwen3-8b")
        assert vocabularies.load([MODEL]) == {}
        print(vocabularies.without_extra(vocabularies.uncounted([MODEL])))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=60, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == (
        "the input of local/qwen3-8b is bounded by its bytes, several times too high: "
        "install fairlane[tokens] to count it by the model's vocabulary\n"
    )

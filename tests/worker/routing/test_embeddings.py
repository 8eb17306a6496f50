"""Plans of embedding jobs: whose vectors, what fits in one call, and what it may cost at most."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_sdk.contract import MOST_VECTOR_BYTES, ErrorCode, Job
from tests.worker.job_runs import CLOUD, LOCAL, card, routing_of, run_of
from worker.job_run import JobRun
from worker.rate_card import RateCard
from worker.routing.embedding_bounds import UNKNOWN, InputFormat, input_format, inputs_bound
from worker.routing.rules import Planned, plan, usable
from worker.routing_file import Deployment, EmbeddingLimits, Provider, RoutingFile, TaskRule

OPENAI = Provider("openai", "openai", "https://api.openai.com/v1", key_env="OPENAI_API_KEY")
CARD = RateCard.flat("e", "test", input=20, output=0, cache_read=20, cache_write=20)


def model(name: str = "e", provider: Provider = LOCAL, *, weight: int = 1, **limits: Any) -> Deployment:
    """An embedding model of 8 dimensions that takes 100 tokens an input, and 4 inputs a call."""
    stated = {"dimensions": 8, "min_dimensions": 2, "max_inputs": 4, "vector_space": name, **limits}
    return Deployment(
        f"{provider.name}/{name}", provider, name, 100, 0, weight, embedding=EmbeddingLimits(**stated)
    )


def routing(*deployments: Deployment, **task: Any) -> RoutingFile:
    rule = TaskRule("embed", "vectors", kind="embedding", **task)
    return routing_of(aliases={"vectors": deployments}, tasks={"embed": rule})


def job_run(inputs: list[str], where: RoutingFile, **params: Any) -> JobRun:
    job = Job.model_validate({"tenant": "acme", "task": "embed", "inputs": inputs, "params": params})
    return run_of(job, routing=where, max_output_tokens=0)


def planned(run: JobRun, *, missing: dict[str, str] | None = None) -> Planned:
    cards = dict.fromkeys(run.routing.deployments(), CARD)
    called = usable(run, cards=cards, missing=missing or {})
    bounds = {one.name: inputs_bound(run.job.inputs, input_format(one), None) for one in called}
    return plan(run, cards=cards, missing=missing or {}, bounds=bounds)


def test_a_call_may_cost_its_inputs_bound_and_no_output():
    found = planned(job_run(["four", "sixsix"], routing(model())))
    [call] = found.plan.calls
    assert (call.highest_pico, found.max_output_tokens) == ((4 + 6 + 2 * 32) * 20, 0)


@pytest.mark.parametrize(
    ("inputs", "params", "limits", "code", "reason"),
    [
        (["a"] * 5, {}, {}, "invalid_job", "a call takes 4 inputs, the job has 5"),
        (["a"], {"dimensions": 9}, {}, "invalid_job", "it gives 2 to 8 dimensions, 9 are asked for"),
        (["a"], {"dimensions": 1}, {}, "invalid_job", "it gives 2 to 8 dimensions, 1 are asked for"),
        (["a" * 90] * 4, {}, {"max_call_tokens": 50}, "invalid_job", "a call takes 50 tokens, the inputs have at"),
        (["a"] * 3, {}, {"dimensions": 2**16 - 1, "max_inputs": 2048}, "", ""),
        (["a"] * 200, {}, {"dimensions": 2**14, "max_inputs": 2048}, "invalid_job", "a result holds 91 vectors"),
        (["a", "b" * 700], {}, {}, "context_too_long", "one input has at least 116 tokens, it takes 100"),
    ],
)  # fmt: skip
def test_what_one_call_does_not_take_is_refused_before_anything_is_paid(
    inputs: list[str], params: dict[str, int], limits: dict[str, int], code: str, reason: str
):
    found = planned(job_run(inputs, routing(model(**limits)), **params))
    if not code:
        assert found.error is None
        return
    assert found.error is not None
    assert (found.error.code, found.plan.calls) == (ErrorCode(code), ())
    assert reason in found.error.message


def test_many_short_inputs_may_be_more_than_the_window_of_one():
    assert planned(job_run(["x" * 300] * 4, routing(model()))).error is None


def test_a_plan_never_mixes_the_vectors_of_two_models():
    first, resort = model("first"), model("other", CLOUD, weight=0)
    same = model("again", CLOUD, vector_space="first")
    where = routing(resort, first, same)
    found = planned(job_run(["a"], where))
    assert {call.deployment.name for call in found.plan.calls} == {"local/first", "cloud/again"}
    assert found.plan.left_out == (("cloud/other", "its vectors cannot be compared with those of first"),)
    without = {"local/first": "no KEY", "cloud/again": "no KEY"}
    resorted = planned(job_run(["a"], where), missing=without).plan
    assert [call.deployment.name for call in resorted.calls] == ["cloud/other"]
    assert dict(resorted.left_out) == without, "the key is what can be mended, so it is named"


def test_a_job_that_only_the_last_resort_could_take_is_refused_and_not_given_its_vectors():
    where = routing(model("first", max_inputs=1), model("other", CLOUD, weight=0))
    found = planned(job_run(["a", "b"], where))
    assert found.plan.calls == ()
    assert found.error is not None
    assert found.error.code == ErrorCode.INVALID_JOB
    assert "submit_many" in found.error.message


def test_the_length_of_vectors_is_the_jobs_then_the_tasks_then_the_models():
    one = model()
    assert job_run(["a"], routing(one)).dimensions(one) == 8
    assert job_run(["a"], routing(one, dimensions=4)).dimensions(one) == 4
    assert job_run(["a"], routing(one, dimensions=4), dimensions=6).dimensions(one) == 6
    assert run_of().dimensions(replace(one, embedding=None)) == 0


def test_a_result_holds_as_many_vectors_as_documented():
    assert [MOST_VECTOR_BYTES // (4 * dimensions) for dimensions in (1_536, 3_072)] == [976, 488]


def test_openais_models_at_its_own_host_are_counted_and_all_others_by_their_bytes():
    small = model("text-embedding-3-small", OPENAI)
    assert input_format(small) == InputFormat("cl100k", 0)
    assert input_format(model("text-embedding-3-small")) == UNKNOWN
    assert input_format(replace(small, tokenizer="bytes")) == UNKNOWN
    assert input_format(replace(model(), tokenizer="qwen3")) == InputFormat("qwen3", 32)
    assert input_format(model("text-embedding-3-small-tuned", OPENAI)) == UNKNOWN


def test_where_the_vocabulary_is_known_the_bound_is_what_it_counts():
    words = inputs_bound(["one two three", "four"], InputFormat("cl100k", 0), lambda text: len(text.split()))
    assert (words.highest, words.lowest, words.longest) == (4, 4, 3)


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5))
def test_a_bound_by_bytes_is_over_what_is_surely_there(inputs: list[str]):
    bound = inputs_bound(inputs, UNKNOWN, None)
    assert bound.longest <= bound.lowest <= sum(len(text.encode(errors="surrogatepass")) for text in inputs)
    assert bound.highest >= bound.lowest + 32 * len(inputs)


def test_a_chat_model_is_planned_as_before():
    found = plan(run_of(), cards=dict.fromkeys(routing_of().deployments(), card()), missing={}, bounds={})
    assert [call.deployment.name for call in found.plan.calls] == ["local/s", "local/l"]

"""StateForm and CheckAnswer: what the model is told, and which answers get through."""

from __future__ import annotations

from typing import Any

import pytest

from producer_sdk.contract import Document, ErrorCode, GenerationParams, Job, Message, ToolCall
from tests.worker.job_runs import (
    Rest,
    answer_of,
    card,
    deployment,
    document,
    fresh_run,
    job_of,
    routing_of,
    run_of,
)
from worker.errors import JobStopped
from worker.fallback.rules import Decision, Failed, told
from worker.job_run import Attempt, JobRun, PlannedCall, WrongAnswer
from worker.outputs.citations import FORM
from worker.outputs.step import CheckAnswer, StateForm
from worker.policy.step import ApplyPolicy
from worker.routing_file import TaskRule
from worker.safety.step import ScreenContent

CITING = routing_of(tasks={"ask": TaskRule("ask", "small", requires_citations=True)})
PLAIN = routing_of()
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def asked(schema: dict[str, Any] | None = None, **fields: Any) -> Job:
    return job_of(params=GenerationParams(response_schema=schema), **fields)


async def stated(job: Job, routing=CITING) -> JobRun:
    """The job run after every step up to StateForm."""
    job_run = fresh_run(job, routing)
    screen, form = ScreenContent(fence_key=b"k"), StateForm()

    async def after_policy(run: JobRun):
        return await screen.run(run, lambda inner: form.run(inner, Rest()))

    await ApplyPolicy().run(job_run, after_policy)
    return job_run


async def checked(answer_text: str, job: Job, routing=CITING, **fields: Any):
    attempt = Attempt(run_of(job, routing=routing), PlannedCall(deployment("s"), "small", card(), 9), 1, 5.0)
    return await CheckAnswer().run(attempt, Rest(answer_of(answer_text, **fields)))


async def test_the_form_stands_between_the_documents_and_the_question():
    job_run = await stated(asked(documents=[document("A fact.")]))
    block, form, question = job_run.messages
    assert ("A fact." in block.text, form.text, question.text) == (True, FORM, "hello")
    assert form.cache_key is None


async def test_the_form_ends_no_static_prefix():
    messages = [
        Message(role="system", content="Be brief.", cache_key="v1"),
        Message(role="user", content="Why?", cache_key="q", cache_ttl="1h"),
    ]
    job_run = await stated(asked(messages=messages, documents=[document("A fact.", cache_key="d")]))
    assert [message.cache_key for message in job_run.messages] == ["v1", "d", "q", "q"]
    dynamic = await stated(
        asked(messages=[messages[0], job_of().messages[0]], documents=[document("A fact.")])
    )
    assert [message.cache_key for message in dynamic.messages] == ["v1", None, None, None]


async def test_the_form_precedes_the_question_that_a_tool_has_answered():
    call = ToolCall(id="1", name="look", arguments={})
    messages = [
        Message(role="user", content="Why?"),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", tool_call_id="1", content="So."),
    ]
    job_run = await stated(asked(messages=messages, documents=[document("A fact.")]))
    assert [message.role for message in job_run.messages] == ["user", "user", "user", "assistant", "tool"]
    assert job_run.messages[1].text == FORM


async def test_a_task_that_asks_for_nothing_is_told_nothing():
    assert len((await stated(asked(SCHEMA), routing=PLAIN)).messages) == 1


@pytest.mark.parametrize(
    ("job", "routing", "reason", "said"),
    [
        (asked(), CITING, "documents", "task 'ask' requires citations and the job has no documents"),
        (
            asked({"type": "x"}),
            PLAIN,
            "response_schema",
            "params.response_schema cannot be used: it is no JSON Schema",
        ),
        (asked({"$ref": "https://x.example/y"}), PLAIN, "response_schema", "nothing is fetched"),
    ],
)
async def test_a_job_that_no_answer_can_satisfy_ends_before_any_call(job, routing, reason, said):
    with pytest.raises(JobStopped) as stopped:
        await stated(job, routing)
    error = stopped.value.error
    assert (error.code, error.reason, said in error.message) == (ErrorCode.INVALID_JOB, reason, True)


async def test_a_right_answer_gets_its_citations_and_its_data_and_keeps_its_text():
    text = '{"a": "So it is [d1: \\"A  FACT.\\"]"}'
    answer = await checked(text, asked(SCHEMA, documents=[document("See: a fact.")]))
    assert answer.text == text
    assert answer.data == {"a": 'So it is [d1: "A  FACT."]'}
    [citation] = answer.citations
    assert (citation.document_id, citation.quote, citation.start, citation.end) == ("d1", "a fact.", 5, 12)


async def test_a_wrong_answer_is_refused_with_what_to_say_about_it_and_keeps_what_it_cost():
    secret = "my-secret-answer"
    with pytest.raises(WrongAnswer) as raised:
        await checked(f'{secret} [d1: "{secret}"]', asked(documents=[document("A fact.")]))
    wrong = raised.value
    assert (wrong.code, wrong.billed, wrong.answer.cost_pico) == ("citations_missing", "yes", 500)
    assert secret not in str(wrong)
    said, told = wrong.follow_up
    assert (said.role, secret in said.text) == ("assistant", True)
    assert (told.role, secret in told.text) == ("user", False)
    assert "citation 1: its quote does not stand" in told.text
    assert FORM in told.text


async def test_an_empty_answer_is_not_said_again():
    with pytest.raises(WrongAnswer) as raised:
        await checked(" ", asked(SCHEMA), routing=PLAIN)
    [told] = raised.value.follow_up
    assert (raised.value.code, told.role) == ("invalid_output", "user")
    assert "it is not JSON" in told.text


async def test_an_answer_that_calls_tools_is_not_the_last_word():
    call = ToolCall(id="1", name="look", arguments={})
    answer = await checked("", asked(SCHEMA, documents=[document("A fact.")]), tool_calls=(call,))
    assert answer.tool_calls == (call,)


async def test_large_documents_are_compared_in_a_thread_and_answered_the_same():
    given = [Document(id=f"d{n}", text=f"Fact {n} — so it is. " * 2_000) for n in range(3)]
    answer = await checked('[d2: "fact 2 - so"]', asked(documents=given))
    assert [one.quote for one in answer.citations] == ["Fact 2 — so"]


async def test_what_a_story_notes_of_a_wrong_answer_repeats_nothing_of_the_jobs_schema():
    kind = {"enum": ["heliotrope", "fuchsia"]}
    schema = {"type": "object", "properties": {"kind": kind}, "required": ["kind"]}
    with pytest.raises(WrongAnswer) as raised:
        await checked('{"kind": "blue"}', asked(schema), PLAIN)
    noted = told(
        Decision("stop", "none is left"),
        [Failed(PlannedCall(deployment("s"), "small", card(), 9), raised.value)],
    )
    assert "heliotrope" in raised.value.wrong
    assert noted["wrong"] == "#/properties/kind/enum"

"""The demo's jobs: tenants in turn, a static prefix for all, one injection."""

from producer_sdk.contract import Document
from worker.embedded.demo.inputs import DemoInputs, LabelledMessage, read_inputs
from worker.embedded.demo.jobs import (
    INJECTION,
    LONGEST_PREFIX,
    POISONED_TENANT,
    classify_jobs,
    classify_prompt,
    rag_jobs,
)
from worker.safety.rules import scan

MESSAGES = [LabelledMessage(f"message {number}", f"category_{number % 7}") for number in range(60)]
DOCUMENTS = tuple(Document(id=f"d{number}", text=f"text about subject{number}") for number in range(9))
INPUTS = DemoInputs(tuple(MESSAGES), tuple(f"what of subject{number}?" for number in range(9)), DOCUMENTS)


def test_every_message_is_one_job_and_tenants_take_turns() -> None:
    jobs = classify_jobs(MESSAGES)
    assert [job.tenant for job in jobs[:4]] == ["acme", "globex", "initech", "acme"]
    assert [job.messages[1].text for job in jobs] == [message.text for message in MESSAGES]


def test_the_instructions_are_the_same_static_segment_for_every_tenant() -> None:
    jobs = classify_jobs(MESSAGES)
    assert len({job.messages[0].text for job in jobs}) == 1
    assert {job.messages[0].cache_key for job in jobs} == {"classify-intent-v1"}


def test_the_prompt_lists_every_category_with_examples_and_stays_short() -> None:
    many = [
        LabelledMessage("a rather long message about something " * 3, f"category_{n % 90}")
        for n in range(900)
    ]
    prompt = classify_prompt(many)
    assert all(f"- category_{number}:" in prompt for number in range(90))
    assert len(prompt.encode()) <= LONGEST_PREFIX


def test_each_question_gets_three_documents_the_best_one_first() -> None:
    jobs = rag_jobs(INPUTS)
    assert [job.documents[0].id for job in jobs] == [document.id for document in DOCUMENTS]
    assert {len(job.documents) for job in jobs} == {3}


def test_exactly_one_job_carries_the_injection_and_its_tenant_blocks_it() -> None:
    poisoned = [
        job for job in rag_jobs(INPUTS) if any(INJECTION in document.text for document in job.documents)
    ]
    assert [job.tenant for job in poisoned] == [POISONED_TENANT]


def test_of_the_projects_own_jobs_safety_stops_the_poisoned_one_alone() -> None:
    jobs = rag_jobs(read_inputs(messages=None, documents=None, questions=None))
    stopped = [
        job for job in jobs if any(scan(document.text, "document").strong for document in job.documents)
    ]
    assert [job.tenant for job in stopped] == [POISONED_TENANT]
    assert any(INJECTION in document.text for document in stopped[0].documents)

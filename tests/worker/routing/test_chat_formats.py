"""Chat formats: a vocabulary only where it is public, generous figures everywhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.worker.job_runs import deployment
from worker.routing.chat_formats import (
    GEMINI,
    OPENAI,
    OPENAI_CL100K,
    QWEN_2_5,
    QWEN_3,
    UNKNOWN,
    chat_format,
    without_vocabulary,
)
from worker.routing_file import Provider

AT_OPENAI = Provider("openai", "openai", "https://api.openai.com/v1")
IN_EUROPE = Provider("openai", "openai", "https://eu.api.openai.com/v1")
RESELLER = Provider("reseller", "openai", "https://api.openai.com.example/v1")
ANY_SERVER = Provider("local", "openai", "https://api.openai.com/v1", base_url_env="FAIRLANE_LOCAL_URL")


@pytest.mark.parametrize(
    ("model", "chat"),
    [
        ("gpt-4o", OPENAI),
        ("gpt-4.1-nano", OPENAI),
        ("o3", OPENAI),
        ("o4-mini-2025-04-16", OPENAI),
        ("gpt-5-mini", OPENAI),
        ("gpt-5.6-terra", OPENAI),
        ("ft:gpt-4o-2024-08-06:acme::id", OPENAI),
        ("gpt-4-turbo", OPENAI_CL100K),
        ("gpt-3.5-turbo-0125", OPENAI_CL100K),
        ("gpt-6-luna", UNKNOWN),  # newer than tiktoken's table
        ("gpt-50", UNKNOWN),
        ("gpt-4o-search-preview", UNKNOWN),
        ("o3-deep-research", UNKNOWN),
    ],
)
def test_models_of_openai_have_the_vocabulary_of_its_own_table(model, chat):
    assert chat_format(deployment(model, provider=AT_OPENAI)) == chat
    assert chat_format(deployment(model, provider=IN_EUROPE)) == chat


@pytest.mark.parametrize("provider", [RESELLER, ANY_SERVER])
def test_a_name_of_openai_says_nothing_at_another_host(provider):
    assert chat_format(deployment("gpt-4-turbo", provider=provider)) == UNKNOWN


@pytest.mark.parametrize(
    ("model", "chat"),
    [
        ("qwen3-8b", QWEN_3),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", QWEN_3),
        ("qwen3:0.6b", QWEN_3),
        ("Qwen2.5-7B-Instruct", QWEN_2_5),
        ("qwen3-max", UNKNOWN),
        ("qwen3.5-35b-a3b", UNKNOWN),
        ("my-qwen3-8b", UNKNOWN),
        ("llama-3.3-70b-versatile", UNKNOWN),
        ("claude-haiku-5-5", UNKNOWN),
    ],
)
def test_models_with_public_weights_are_known_wherever_they_are_served(model, chat):
    assert chat_format(deployment(model, provider=ANY_SERVER)) == chat


def test_a_tokenizer_that_the_file_states_goes_before_the_name_with_generous_figures():
    stated = replace(deployment("gpt-6-luna", provider=AT_OPENAI), tokenizer="o200k")
    assert chat_format(stated) == replace(UNKNOWN, vocabulary="o200k")
    assert chat_format(replace(stated, model="gpt-5", tokenizer="bytes")) == UNKNOWN
    assert chat_format(replace(stated, model="gpt-5")) == OPENAI


def test_templates_that_bring_a_long_prompt_and_models_with_dear_images_have_their_figures():
    served = chat_format(deployment("mistralai/Mistral-Small-3.1-24B-Instruct-2503"))
    assert served == replace(UNKNOWN, request=2048)
    dear = chat_format(deployment("gpt-4o-mini", provider=AT_OPENAI))
    assert dear == replace(OPENAI, image=49_152)


def test_gemini_is_bounded_by_bytes_whatever_the_model_is_called_and_its_images_by_more_than_their_most():
    google = Provider("gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta")
    for model in ("gemini-4-argon", "gemini-2.5-flash", "gemma-3-27b-it"):
        chat = chat_format(deployment(model, provider=google))
        assert chat == GEMINI == replace(UNKNOWN, signed=True)
        assert chat.image > 2240
        assert without_vocabulary(chat) == GEMINI

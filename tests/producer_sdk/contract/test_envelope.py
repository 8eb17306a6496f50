"""Messages: what is packed is read again, whatever arrives is read or refused with a sentence, never a crash."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from producer_sdk.contract import (
    LANES,
    Document,
    GenerationParams,
    ImagePart,
    Job,
    Message,
    TextPart,
    ToolCall,
)
from producer_sdk.contract.envelope import (
    COMPRESS_ABOVE_BYTES,
    MAX_BODY_BYTES,
    BadMessage,
    Header,
    NewerVersion,
    is_signed,
    job_body,
    pack,
    read_job,
    unpack,
)

KEY = b"the fleet's key"


def a_job(text: str = "Where is my card?", **fields: Any) -> Job:
    return Job(tenant="acme", task="classify", messages=[Message(role="user", content=text)], **fields)


def with_head(message: bytes, **changes: Any) -> bytes:
    head, body = message.split(b"\n", 1)
    return json.dumps(json.loads(head) | changes).encode() + b"\n" + body


def refusal(message: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        read_job(unpack(message))
    return str(caught.value)


def read_or_refused(message: bytes) -> Job | str:
    try:
        envelope = unpack(message)
        is_signed(envelope.header, KEY)
        return read_job(envelope)
    except BadMessage as error:
        return str(error)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
parts = st.builds(TextPart, text=text) | st.builds(ImagePart, url=text.map("https://example.org/{}".format))
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant"]),
    content=words | st.lists(parts, min_size=1, max_size=3),
    tool_calls=st.lists(
        st.builds(
            ToolCall,
            id=text,
            name=text,
            arguments=st.dictionaries(text, text | st.integers()),
            signature=st.none() | text,
        ),
        max_size=2,
    ),
    cache_key=st.none() | words,
)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone
jobs = st.builds(
    Job,
    tenant=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,20}", fullmatch=True),
    task=st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    messages=st.lists(messages, min_size=1, max_size=3),
    documents=st.lists(st.builds(Document, id=words, text=text), max_size=2),
    lane=st.sampled_from(LANES),
    priority=st.integers(0, 9),
    params=st.builds(
        GenerationParams, temperature=st.none() | st.floats(0, 2), stop=st.lists(text, max_size=2)
    ),
    idempotency_key=st.none() | words,
    deadline=st.none() | moments,
    not_before=st.none() | moments,
    metadata=st.dictionaries(text, text, max_size=3),
)


@given(jobs)
def test_what_is_packed_is_read_again(job: Job) -> None:
    entry = pack(job, signing_key=KEY)
    envelope = unpack(entry.message)
    assert read_job(envelope) == job
    assert is_signed(envelope.header, KEY)
    header = envelope.header
    assert (header.job_id, header.tenant, header.task, header.lane) == (
        str(job.job_id), job.tenant, job.task, job.lane,
    )  # fmt: skip
    assert (entry.job_id, entry.tenant, entry.lane, entry.digest) == (
        header.job_id, header.tenant, header.lane, header.sha256,
    )  # fmt: skip


@given(jobs)
def test_packing_the_same_job_twice_gives_the_same_digest(job: Job) -> None:
    assert pack(job).digest == pack(Job.model_validate_json(job.model_dump_json()), signing_key=KEY).digest


def test_a_body_over_4_kb_travels_compressed_and_a_shorter_one_does_not() -> None:
    short, long = pack(a_job("x" * 1000)), pack(a_job("x" * 5000))
    assert unpack(short.message).header.encoding == "identity"
    assert unpack(long.message).header.encoding == "zstd"
    assert len(long.message) < COMPRESS_ABOVE_BYTES
    assert unpack(long.message).header.size == len(job_body(a_job("x" * 5000)))


def test_eight_megabytes_is_the_limit_of_the_plain_body() -> None:
    room = MAX_BODY_BYTES - len(job_body(a_job("x"))) + 1
    entry = pack(a_job("x" * room))
    assert len(unpack(entry.message).body) == MAX_BODY_BYTES
    with pytest.raises(BadMessage, match="send fewer or shorter documents"):
        pack(a_job("x" * (room + 1)))


def test_a_small_message_that_unfolds_to_more_than_the_limit_is_refused() -> None:
    bomb = zstd.compress(b"x" * (MAX_BODY_BYTES + 1))
    head = pack(a_job("x" * 5000)).message.split(b"\n", 1)[0]
    assert len(bomb) < 4096
    assert refusal(with_head(head + b"\n" + bomb, size=0, sha256="")) == (
        f"the body is over {MAX_BODY_BYTES} bytes: send fewer or shorter documents"
    )


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    wide = compressor.compress(b"x" * 100) + compressor.flush()
    head = pack(a_job("x" * 5000)).message.split(b"\n", 1)[0]
    assert "not zstd" in refusal(head + b"\n" + wide)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoding": "gzip"}, "send identity or zstd"),
        ({"size": 17}, "not as long as header.size"),
        ({"sha256": "0" * 64}, "does not match header.sha256"),
        ({"v": 0}, "version is missing or unknown"),
        ({"v": None}, "version is missing or unknown"),
        ({"v": "1"}, "version is missing or unknown"),
        ({"lane": "express"}, "header.lane: "),
        ({"priority": 10}, "header.priority: "),
        ({"due_ms": -1}, "header.due_ms: "),
        ({"deadline_ms": 2**60}, "header.deadline_ms: "),
        ({"tennant": "x"}, "header.tennant: unknown field, did you mean 'tenant'?"),
    ],
)
def test_a_bad_header_is_refused_with_its_field(change: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(with_head(pack(a_job()).message, **change))


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_compressed_body_that_was_cut_is_refused(cut: int) -> None:
    assert "cut" in refusal(pack(a_job("".join(map(str, range(5000))))).message[:-cut])


def test_a_compressed_body_with_something_behind_it_is_refused() -> None:
    assert "one whole zstd frame" in refusal(pack(a_job("x" * 5000)).message + b"more")


def test_a_newer_version_is_told_apart_so_that_a_newer_worker_may_take_it() -> None:
    with pytest.raises(NewerVersion) as caught:
        unpack(with_head(pack(a_job()).message, v=2, a_field_of_version_2=True))
    assert caught.value.found == 2


@pytest.mark.parametrize("part", ["tenant", "task", "lane", "job_id", "nonce", "sha256"])
def test_a_signature_covers_every_part_that_decides_who_pays(part: str) -> None:
    header = unpack(pack(a_job(), signing_key=KEY).message).header
    other = {"lane": "batch"}.get(part, "x")
    assert is_signed(header, KEY)
    assert not is_signed(header.model_copy(update={part: other}), KEY)


def test_a_signature_covers_the_time_and_the_body_through_its_hash() -> None:
    header = unpack(pack(a_job(), signing_key=KEY).message).header
    assert not is_signed(header.model_copy(update={"sent_ms": header.sent_ms + 1}), KEY)
    assert not is_signed(header, b"another key")


@pytest.mark.parametrize("signature", [None, "", "é", "0" * 64])
def test_no_signature_or_a_strange_one_is_simply_not_signed(signature: str | None) -> None:
    header = unpack(pack(a_job()).message).header
    assert not is_signed(header.model_copy(update={"signature": signature}), KEY)


def test_parts_cannot_be_shifted_from_one_field_to_the_next() -> None:
    one = unpack(pack(a_job(), signing_key=KEY).message).header
    shifted = one.model_copy(update={"tenant": one.tenant + one.task[0], "task": one.task[1:]})
    assert not is_signed(shifted, KEY)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_bad_message(raw: bytes) -> None:
    assert read_or_refused(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200)
@given(field=st.sampled_from(sorted(Header.model_fields)), value=json_values)
def test_any_value_in_any_header_field_is_read_or_refused(field: str, value: Any) -> None:
    assert read_or_refused(with_head(pack(a_job(), signing_key=KEY).message, **{field: value}))


@settings(max_examples=200)
@given(value=json_values | st.lists(json_values, min_size=3, max_size=3), whole=st.booleans())
def test_any_json_in_the_body_is_read_or_refused(value: Any, whole: bool) -> None:
    body = json.dumps(value if whole else [[], {"job": value}, {}]).encode()
    assert read_or_refused(with_head(b"{}\n" + body, v=1, job_id="j", tenant="t", task="t", lane="batch"))


def test_deep_nesting_is_refused_like_any_other_nonsense() -> None:
    head = b'{"v":1,"job_id":"j","tenant":"t","task":"t","lane":"batch"}\n'
    for nonsense in (b"[" * 100_000, b'[[],{"job":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"},{}]"):
        refusal(head + nonsense)


GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.b64"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_messages_written_by_the_first_release_are_read_for_ever(path: Path) -> None:
    envelope = unpack(base64.b64decode(path.read_text()))
    job = read_job(envelope)
    assert (job.tenant, job.task, str(job.job_id)) == ("acme", "classify", envelope.header.job_id)
    assert is_signed(envelope.header, KEY)


def test_there_are_golden_messages_of_both_encodings() -> None:
    assert [path.stem for path in GOLDEN] == ["v1-identity", "v1-zstd"]


def test_the_message_that_the_wire_document_shows_is_a_message() -> None:
    shown = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```text\n(\{.*?)```", shown, re.DOTALL)
    job = read_job(unpack(block.strip().encode()))
    assert (job.tenant, job.messages[0].text) == ("acme", "Where is my parcel?")

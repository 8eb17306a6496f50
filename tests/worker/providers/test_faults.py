"""Providers that misbehave on the wire, over real sockets: each ends as one clear error, and nothing is kept open."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib

import pytest

from tests.worker.providers.attempts import attempt, key, no_proceed, settings
from tests.worker.providers.raw_server import HEAD, Answer, Connection, RawServer
from worker.embedded.twin import Twin
from worker.errors import FailureKind, ProviderError
from worker.job_run import Answer as Answered
from worker.providers.client import open_client
from worker.providers.reply import MOST_ANSWER_BYTES
from worker.providers.step import CallProvider
from worker.routing_file import Dialect

MIB = 1024 * 1024
KEY = "sk-very-secret"
BUFFERED = 16 * MIB  # what the sockets of both sides may hold beyond what was read
OPENAI_ANSWER = (
    b'data: {"model":"m","choices":[{"delta":{"content":"Yes."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


async def call(
    url: str, dialect: Dialect = "openai", *, timeout_s: float = 20.0, messages: str = "Hi"
) -> Answered:
    """One attempt with a key; the client stays open until the server has seen what becomes of its connection."""
    one = attempt(url, dialect, timeout_s=timeout_s, messages=messages)
    async with open_client(settings()) as client:
        return await CallProvider(client=client, keys=key(KEY)).run(one, no_proceed)


async def failure(
    server: RawServer, dialect: Dialect = "openai", *, timeout_s: float = 20.0
) -> ProviderError:
    """How the attempt at this server fails; its connection is given back before the client is closed."""
    one = attempt(server.url, dialect, timeout_s=timeout_s)
    async with open_client(settings()) as client:
        step = CallProvider(client=client, keys=key(KEY))
        with pytest.raises(ProviderError) as caught:
            await step.run(one, no_proceed)
        await server.all_closed()
    assert KEY not in f"{caught.value} {caught.value.code}"
    return caught.value


def says(data: bytes, *, then: str = "close") -> Answer:
    """An answer of these bytes, after which the server closes, half-closes, or aborts."""

    async def answer(connection: Connection) -> None:
        await connection.send(data)
        if then == "close":
            connection.writer.close()
        if then == "half_close":
            connection.writer.write_eof()
        if then == "abort":
            connection.writer.transport.abort()

    return answer


def repeats(head: bytes, data: bytes, *, pause_s: float = 0.0) -> Answer:
    """An answer that never ends."""

    async def answer(connection: Connection) -> None:
        await connection.send(head)
        await connection.for_ever(data, pause_s=pause_s)

    return answer


def delta(dialect: Dialect, text: str) -> bytes:
    """One event with text in it."""
    event: dict[str, object] = {"choices": [{"delta": {"content": text}}]}
    if dialect == "gemini":
        event = {"candidates": [{"content": {"parts": [{"text": text}]}}]}
    if dialect == "anthropic":
        event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def with_head(
    body: bytes, *headers: str, status: int = 200, content_type: str = "text/event-stream"
) -> bytes:
    """A whole answer that says how long it is."""
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def found(error: ProviderError) -> tuple[FailureKind, str, str | None]:
    return error.kind, error.billed, error.code


async def test_a_stream_of_comments_that_never_ends_is_ended_by_the_attempts_time(dialect: Dialect):
    async with RawServer(repeats(HEAD, b": still here\n\n", pause_s=0.01)) as server:
        started = time.monotonic()
        error = await failure(server, dialect, timeout_s=0.4)
    assert found(error) == (FailureKind.TIMEOUT, "unknown", "timeout")
    assert time.monotonic() - started < 3


async def test_a_server_that_says_continue_for_ever_is_ended_by_the_attempts_time():
    async with RawServer(repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.001)) as server:
        error = await failure(server, timeout_s=0.4)
    assert found(error) == (FailureKind.TIMEOUT, "unknown", "timeout")


async def test_what_comes_after_a_complete_answer_does_not_hold_it_up():
    started = time.monotonic()
    async with RawServer(repeats(HEAD + OPENAI_ANSWER, b": more\n\n", pause_s=0.001)) as server:
        assert (await call(server.url)).text == "Yes."
        await server.all_closed()
    assert time.monotonic() - started < 5


async def test_tool_calls_without_end_are_cut_at_the_limit():
    calls = [{"id": f"c{number}", "function": {"name": "f"}} for number in range(2_000)]
    body = b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": calls}}]}).encode() + b"\n\n"
    async with RawServer(says(HEAD + body)) as server:
        assert (await failure(server)).code == "answer_too_large"


async def test_headers_that_never_end_are_ended_by_their_limit(dialect: Dialect):
    async with RawServer(repeats(b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n")) as server:
        error = await failure(server, dialect)
    assert found(error) == (FailureKind.STREAM_BROKEN, "unknown", "not_http")
    assert server.sent < BUFFERED


async def test_a_hundred_megabytes_of_answer_are_cut_at_the_limit(dialect: Dialect):
    async def answer(connection: Connection) -> None:
        await connection.send(HEAD)
        for _ in range(100):
            await connection.send(delta(dialect, "word " * (MIB // 5)))

    async with RawServer(answer) as server:
        error = await failure(server, dialect)
    assert found(error) == (FailureKind.STREAM_BROKEN, "unknown", "answer_too_large")
    assert server.sent < MOST_ANSWER_BYTES + BUFFERED


@pytest.mark.parametrize(
    ("status", "content_type", "expected"),
    [
        (500, "text/html", (FailureKind.SERVER_ERROR, "unknown", None)),
        (200, "application/json", (FailureKind.STREAM_BROKEN, "unknown", "not_a_stream")),
    ],
)
async def test_of_a_hundred_megabytes_that_are_no_stream_only_the_beginning_is_read(
    status: int, content_type: str, expected: tuple[FailureKind, str, str | None]
):
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {100 * MIB}\r\n\r\n"
    async with RawServer(repeats(head.encode(), b"x" * MIB)) as server:
        error = await failure(server)
    assert found(error) == expected
    assert server.sent < BUFFERED


def packed(encoding: str, line: bytes, times: int) -> bytes:
    """`line`, so many times, packed."""
    stream = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15, "raw": -15}[encoding])
    return b"".join(stream.compress(line) for _ in range(times)) + stream.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
async def test_a_packed_answer_is_read_as_what_it_unpacks_to(encoding: str):
    body = packed(encoding, OPENAI_ANSWER, 1)
    name = encoding.replace("raw", "deflate")
    async with RawServer(says(with_head(body, f"content-encoding: {name}"))) as server:
        assert (await call(server.url)).text == "Yes."


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])  # no reader sees more of it than another
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_cut_where_its_unpacked_bytes_are_over_the_limit(encoding: str, dialect: Dialect):
    bomb = packed(encoding, delta(dialect, "a" * MIB), 200)
    assert len(bomb) < MIB
    async with RawServer(says(with_head(bomb, f"content-encoding: {encoding}"))) as server:
        tracemalloc.start()
        try:
            error = await failure(server, dialect)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert found(error) == (FailureKind.STREAM_BROKEN, "unknown", "answer_too_large")
    assert peak < 5 * MOST_ANSWER_BYTES, peak


async def test_a_bomb_of_one_line_is_cut_at_the_limit_of_a_line():
    bomb = packed("gzip", b"a" * MIB, 200)
    async with RawServer(says(with_head(bomb, "content-encoding: gzip"))) as server:
        assert (await failure(server)).code == "line_too_long"


async def test_a_bomb_with_an_error_status_is_an_error_of_that_status():
    bomb = packed("gzip", b" " * MIB, 200)
    async with RawServer(says(with_head(bomb, "content-encoding: gzip", status=429))) as server:
        error = await failure(server)
    assert (error.kind, error.billed) == (FailureKind.RATE_LIMITED, "no")


async def test_a_packed_error_is_read_by_its_code():
    body = gzip.compress(b'{"error": {"code": "insufficient_quota", "message": "x"}}')
    answer = with_head(body, "content-encoding: gzip", status=429, content_type="application/json")
    async with RawServer(says(answer)) as server:
        assert found(await failure(server)) == (FailureKind.QUOTA_EXHAUSTED, "no", "insufficient_quota")


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "nonsense"])
async def test_what_is_packed_in_a_way_nobody_asked_for_is_not_unpacked(encoding: str):
    body = gzip.compress(gzip.compress(OPENAI_ANSWER))
    async with RawServer(says(with_head(body, f"content-encoding: {encoding}"))) as server:
        assert found(await failure(server)) == (FailureKind.STREAM_BROKEN, "unknown", "content_encoding")
    async with RawServer(says(with_head(body, f"content-encoding: {encoding}", status=529))) as server:
        assert (await failure(server)).kind == FailureKind.OVERLOADED


@pytest.mark.parametrize("body", [b"not gzip at all", gzip.compress(OPENAI_ANSWER)[:-30]])
async def test_a_packed_answer_that_is_damaged_is_a_broken_stream(body: bytes):
    async with RawServer(says(with_head(body, "content-encoding: gzip"))) as server:
        error = await failure(server)
    assert (error.kind, error.billed) == (FailureKind.STREAM_BROKEN, "unknown")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed_and_the_key_goes_nowhere_else(status: int, dialect: Dialect):
    async with RawServer(says(HEAD)) as elsewhere:
        for location in (f"{elsewhere.url}/v1/chat/completions", "/elsewhere"):
            answer = says(with_head(b"", f"location: {location}", status=status))
            async with RawServer(answer) as server:
                error = await failure(server, dialect)
            assert found(error) == (FailureKind.SERVER_ERROR, "no", "redirect")
            assert len(server.requests) == 1
            assert KEY.encode() in server.requests[0]
    assert elsewhere.opened == 0


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html; charset=utf-8", b"<html>Please log in</html>"),
        ("application/json", b'{"choices": [{"message": {"content": "whole"}}]}'),
        ("application/octet-stream", OPENAI_ANSWER),
        ("", OPENAI_ANSWER),
        ("caf\xe9", b"\xff\xfe"),
    ],
)
async def test_an_answer_of_another_type_is_no_answer(content_type: str, body: bytes):
    async with RawServer(says(with_head(body, content_type=content_type))) as server:
        assert found(await failure(server)) == (FailureKind.STREAM_BROKEN, "unknown", "not_a_stream")


async def test_an_answer_that_names_no_type_is_read():
    async with RawServer(says(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + OPENAI_ANSWER)) as server:
        assert (await call(server.url)).text == "Yes."


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f\x98"], ids=repr)
async def test_text_that_is_no_utf8_is_garbage_and_is_not_repaired(text: bytes):
    body = OPENAI_ANSWER.replace(b"Yes.", text)
    async with RawServer(says(HEAD + body)) as server:
        assert found(await failure(server)) == (FailureKind.STREAM_BROKEN, "unknown", "garbage")


async def test_half_a_character_that_stays_alone_is_marked_and_the_paid_answer_kept():
    async with RawServer(says(HEAD + OPENAI_ANSWER.replace(b"Yes.", b"Yes \\ud83d"))) as server:
        assert (await call(server.url)).text == "Yes \ufffd"


async def test_an_error_that_is_no_utf8_is_read_by_its_status():
    body = b'{"error": {"message": "\xff\xfe", "code": "insufficient_quota"}}'
    async with RawServer(says(with_head(body, "retry-after: \xff", status=429))) as server:
        error = await failure(server)
    assert (error.kind, error.retry_after_s) == (FailureKind.RATE_LIMITED, None)


NO_ANSWER = (FailureKind.STREAM_BROKEN, "unknown", "disconnected")
UNFINISHED = (FailureKind.STREAM_BROKEN, "unknown", "no_finish_reason")
CUTS = [
    (b"", NO_ANSWER),
    (b"HTTP/1.1 200 OK\r\ncontent-ty", NO_ANSWER),
    (HEAD, UNFINISHED),
    (HEAD + delta("openai", "Ye"), UNFINISHED),
    (HEAD + delta("openai", "Ye")[:-9], UNFINISHED),
    (with_head(OPENAI_ANSWER)[:-60], NO_ANSWER),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nda", NO_ANSWER),
    (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        (FailureKind.STREAM_BROKEN, "unknown", "not_http"),
    ),
]


@pytest.mark.parametrize("then", ["close", "half_close", "abort"])
@pytest.mark.parametrize(("data", "expected"), CUTS, ids=range(len(CUTS)))
async def test_an_answer_that_is_cut_anywhere_is_a_broken_call(data: bytes, expected: object, then: str):
    async with RawServer(says(data, then=then)) as server:
        error = await failure(server)
    assert found(error) in ((expected,) if then != "abort" else (expected, NO_ANSWER))


async def test_a_server_that_half_closes_after_a_whole_answer_has_answered():
    async with RawServer(says(with_head(OPENAI_ANSWER), then="half_close")) as server:
        assert (await call(server.url)).text == "Yes."


async def test_a_server_that_takes_nothing_in_is_ended_by_the_attempts_time():
    async def silent(_connection: Connection) -> None:
        await asyncio.sleep(60)

    async with RawServer(silent, reads=False) as server:
        started = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            await call(server.url, messages="long " * (MIB // 6), timeout_s=0.5)
    assert found(caught.value) == (FailureKind.TIMEOUT, "unknown", "timeout")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * MIB + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x-many: a\r\n" * (MIB // 11) + b"\r\n",
        b"HTTP/1.1 200 " + b"a" * MIB + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ],
    ids=[
        "one long header",
        "many headers",
        "a long status line",
        "another protocol",
        "status",
        "length",
        "colon",
    ],
)
async def test_what_is_no_http_or_has_a_megabyte_of_headers_is_a_broken_call(answer: bytes, dialect: Dialect):
    async with RawServer(says(answer)) as server:
        error = await failure(server, dialect)
    assert found(error) == (FailureKind.STREAM_BROKEN, "unknown", "not_http")


async def test_a_name_without_an_address_is_no_connection(dialect: Dialect):
    with pytest.raises(ProviderError) as caught:
        await call("http://nowhere.invalid", dialect)
    assert found(caught.value) == (FailureKind.CONNECT_ERROR, "no", "dns")


async def test_a_connection_that_answered_whole_is_used_again(twin: Twin, dialect: Dialect):
    async def answer(connection: Connection) -> None:
        await connection.send(with_head(b"", status=500))

    async with RawServer(answer) as server, open_client(settings()) as client:
        step = CallProvider(client=client)
        for _ in range(3):
            with pytest.raises(ProviderError):
                await step.run(attempt(server.url, dialect), no_proceed)
        assert (len(server.requests), server.opened) == (3, 1)

"""Reads an embedding's answer: one JSON body, bounded, with one right vector for each input or none at all."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic_core

from producer_sdk.contract import Usage, Vectors
from worker.errors import Billed, FailureKind, ProviderError
from worker.providers.errors import broken, inside_stream
from worker.providers.reply import Reply

# What a number may take as JSON, with the indents that some write around it; and what stands around each vector.
_BYTES_PER_NUMBER = 32
_BYTES_PER_VECTOR = 1_024
_BYTES_BESIDE = 65_536
_NUMBERS = {int, float}


@dataclass(frozen=True)
class Wanted:
    """How many vectors were asked for, and of which length."""

    vectors: int
    dimensions: int

    @property
    def most_bytes(self) -> int:
        """The longest body that can be an answer to this."""
        return _BYTES_BESIDE + self.vectors * (_BYTES_PER_VECTOR + self.dimensions * _BYTES_PER_NUMBER)


@dataclass(frozen=True)
class Told:
    """What a body says: the vectors as they stand there, in the order of the inputs, and what beside them."""

    vectors: Sequence[Any]
    model: str
    usage: Usage | None


class WrongVectors(Exception):
    """The body does not hold the vectors that were asked for; `code` says what is wrong."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


class VectorsReader:
    """One answer; see reply.Reader. `tell` reads a dialect's body, `usage_in` what it says of tokens."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        tell: Callable[[dict[str, Any], int], Told],
        usage_in: Callable[[dict[str, Any]], Usage | None],
    ) -> None:
        self.finished = self.closed = False
        self.usage: Usage | None = None
        self._wanted = wanted
        self._tell = tell
        self._usage_in = usage_in
        self._body = bytearray()
        self._reply: Reply | None = None

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        return bool(self._body)

    def new_text(self) -> str:
        """Nothing: vectors are no text."""
        return ""

    def take(self, _name: str, data: bytes) -> None:
        """More of the body. Raises ProviderError where it is longer than an answer can be."""
        self._body += data
        if len(self._body) > self._wanted.most_bytes:
            raise broken(f"the answer is over {self._wanted.most_bytes} bytes", code="body_too_large")

    def end(self) -> None:
        """The body is whole: read it. Raises ProviderError unless it holds every vector, each as it was asked for."""
        body = _object(self._body)
        self._body = bytearray(1)  # begun it has; its answer may be many megabytes
        error = body.get("error")
        if error:
            stated = error if isinstance(error, dict) else {"message": str(error)[:200]}
            raise inside_stream(stated, begun=False, usage=None)
        self.usage = self._usage_in(body)
        self.finished = self.closed = True
        try:
            told = self._tell(body, self._wanted.vectors)
            numbers = [_numbers(vector, self._wanted.dimensions) for vector in told.vectors]
        except WrongVectors as wrong:
            raise invalid(str(wrong), code=wrong.code, usage=self.usage) from wrong
        vectors = Vectors.packed(numbers, dimensions=self._wanted.dimensions)
        self._reply = Reply("", (), told.model, self.usage, vectors=vectors)

    def reply(self) -> Reply:
        """The answer, once it was read."""
        if self._reply is None:
            raise AssertionError("an answer is read before it is asked for")
        return self._reply


def invalid(what: str, *, code: str, usage: Usage | None) -> ProviderError:
    """The error for an answer that was given, and has not the vectors that were asked for."""
    billed: Billed = "yes" if usage else "unknown"
    return ProviderError(FailureKind.INVALID_OUTPUT, what, billed=billed, usage=usage, code=code)


def listed(value: Any, wanted: int) -> list[dict[str, Any]]:
    """The list of objects that holds the vectors, as many as were asked for. Raises WrongVectors."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise WrongVectors("vectors_missing", "the answer has no list of vectors")
    if len(value) != wanted:
        raise WrongVectors("vectors_missing", f"the answer has {len(value)} vectors for {wanted} inputs")
    return value


def _object(body: bytearray) -> dict[str, Any]:
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=True)
    except ValueError as error:
        raise broken("the answer is not JSON", code="garbage") from error
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]  # Google's way with errors
    if not isinstance(value, dict):
        raise broken("the answer is not an object", code="garbage")
    return value


def _numbers(vector: Any, dimensions: int) -> array[float]:
    """A vector of float32, from JSON's numbers or from base64. Raises WrongVectors."""
    numbers = _from_base64(vector) if isinstance(vector, str) else _from_list(vector)
    if len(numbers) != dimensions:
        raise WrongVectors(
            "vectors_length", f"a vector has {len(numbers)} numbers, {dimensions} were asked for"
        )
    if not math.isfinite(sum(numbers)):
        raise WrongVectors("vectors_not_finite", "a vector holds what is no finite number")
    if not any(numbers):
        raise WrongVectors("vectors_zero", "a vector holds nothing but zeros")
    return numbers


def _from_base64(text: str) -> array[float]:
    numbers = array("f")
    try:
        numbers.frombytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise WrongVectors("vectors_unreadable", "a vector is not base64 of float32") from error
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _from_list(values: Any) -> array[float]:
    if not isinstance(values, list) or not set(map(type, values)) <= _NUMBERS:
        raise WrongVectors("vectors_unreadable", "a vector is not a list of numbers")
    try:
        return array("f", values)
    except OverflowError as error:
        raise WrongVectors("vectors_not_finite", "a vector holds what is no finite number") from error

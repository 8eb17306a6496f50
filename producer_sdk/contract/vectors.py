"""Vectors on the wire: float32 in base64, a quarter of what they are as JSON's numbers."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from producer_sdk.contract.job import MOST_DIMENSIONS, Frozen

BYTES_PER_NUMBER = 4
# Of a job's vectors together: in base64, and with all that stands beside them, they are under a result's 8 MB.
MOST_VECTOR_BYTES = 6_000_000


class Vectors(Frozen):
    """Vectors of one length, one after the other: float32, little-endian, in base64."""

    dimensions: Annotated[int, Field(gt=0, le=MOST_DIMENSIONS)]
    data: str = Field(repr=False)

    @classmethod
    def packed(cls, vectors: Iterable[array[float]], *, dimensions: int) -> Vectors:
        """These vectors, each an array of float32 (`f`)."""
        raw = b"".join(_little_endian(vector).tobytes() for vector in vectors)
        return cls(dimensions=dimensions, data=base64.b64encode(raw).decode())

    def lists(self) -> list[list[float]]:
        """Each vector as numbers."""
        numbers = array("f", base64.b64decode(self.data))
        whole = _little_endian(numbers).tolist()
        return [whole[at : at + self.dimensions] for at in range(0, len(whole), self.dimensions)]

    @model_validator(mode="after")
    def _is_whole(self) -> Vectors:
        try:
            raw = base64.b64decode(self.data, validate=True)
        except binascii.Error as error:
            raise ValueError("the vectors' data is not base64") from error
        if len(raw) % (BYTES_PER_NUMBER * self.dimensions):
            raise ValueError("the vectors' data holds no whole number of vectors")
        return self


def _little_endian(numbers: array[float]) -> array[float]:
    """As this machine has them, or the other way round."""
    if sys.byteorder == "little":
        return numbers
    swapped = array("f", numbers)
    swapped.byteswap()
    return swapped

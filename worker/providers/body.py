"""An answer's body as it comes, unpacked in bounded pieces: what a provider packs never counts for less than it is.

Calls ask for no encoding. Some gateways send gzip or deflate all the same; anything else, and an encoding inside
another, is refused, for a few kilobytes of it may unpack to gigabytes.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import httpx

from worker.providers.errors import broken

PIECE_BYTES = 64 * 1024
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_WITHOUT_HEADER = -15


async def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body's bytes, none over PIECE_BYTES once unpacked. Raises ProviderError for what cannot be unpacked."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    unpacked = None if encoding in ("", "identity") else _Unpacked(encoding)
    async for chunk in response.aiter_raw():
        if unpacked is None:
            yield chunk
            continue
        for piece in unpacked.feed(chunk):
            yield piece
            await asyncio.sleep(0)  # other calls go on while a bomb unpacks


class _Unpacked:
    """A gzip or deflate stream, a piece at a time."""

    def __init__(self, encoding: str) -> None:
        if encoding not in _WINDOWS:
            raise broken("the provider packed its answer in a way nobody asked for", code="content_encoding")
        self._stream = zlib.decompressobj(_WINDOWS[encoding])
        self._begun = encoding != "deflate"

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What this chunk unpacks to; nothing after the packed stream's end."""
        while chunk and not self._stream.eof:
            piece = self._unpack(chunk)
            chunk = self._stream.unconsumed_tail
            if piece:
                yield piece

    def _unpack(self, chunk: bytes) -> bytes:
        try:
            piece = self._stream.decompress(chunk, PIECE_BYTES)
        except zlib.error as error:
            if self._begun:
                raise broken("the provider's packed answer cannot be read", code="garbage") from error
            self._begun = True
            self._stream = zlib.decompressobj(_WITHOUT_HEADER)  # deflate as some servers mean it
            return self._unpack(chunk)
        self._begun = True
        return piece

"""Characters that a server has cut in half between two events, as programs that count in UTF-16 do.

The first event then ends with \\ud83d and the next one begins with \\ude9a: neither is a character, and JSON (RFC 8259)
allows both. Read apart each would be garbage, and a paid answer lost.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_HALF = re.compile("[\ud800-\udfff]")
_PIECES = frozenset({"text", "content", "arguments", "partial_json"})
_WHOLE = "args"  # Gemini's calls come in one piece, whatever their arguments are named


def read_with_halves(data: bytes) -> Any:
    """JSON whose growing texts may begin or end with half a character. Raises ValueError."""
    if b"\\ud" not in data.lower():
        raise ValueError("it is not JSON for another reason")
    try:
        return _mended(json.loads(data, parse_constant=_refused))
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def whole(text: str) -> str:
    """The text with its halves put together; one that is alone becomes U+FFFD."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def ends_in_half(text: str) -> bool:
    """Whether the last character is the first half of one."""
    return "\ud800" <= text[-1:] <= "\udbff"


def _mended(value: Any, name: str = "", pieces: frozenset[str] = _PIECES) -> Any:
    if isinstance(value, str):
        return value if name in pieces else whole(value)
    if isinstance(value, dict):
        inside = frozenset[str]() if name == _WHOLE else pieces
        return {whole(key): _mended(one, key, inside) for key, one in value.items()}
    return [_mended(one, name, pieces) for one in value] if isinstance(value, list) else value


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")

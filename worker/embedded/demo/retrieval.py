"""Finds the documents that fit a question: BM25 over words (Robertson and Zaragoza, 2009), in plain Python."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Sequence

from producer_sdk.contract import Document

_WORD = re.compile(r"\w+")
SATURATION = 1.2
LENGTH_WEIGHT = 0.75


class Retriever:
    """An index over documents; titles count as text."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._counts = [Counter(_words(f"{document.title or ''} {document.text}")) for document in documents]
        self._lengths = [counts.total() for counts in self._counts]
        self._mean = sum(self._lengths) / len(self._lengths)
        self._holding = Counter(word for counts in self._counts for word in counts)

    def top(self, question: str, n: int = 3) -> list[Document]:
        """The `n` documents that fit best; among equals the first."""
        words = set(_words(question))
        best = heapq.nlargest(
            n, range(len(self._documents)), key=lambda index: (self._score(words, index), -index)
        )
        return [self._documents[index] for index in best]

    def _score(self, words: set[str], index: int) -> float:
        counts = self._counts[index]
        longer = 1 - LENGTH_WEIGHT + LENGTH_WEIGHT * self._lengths[index] / self._mean
        return sum(
            self._rarity(word) * counts[word] * (SATURATION + 1) / (counts[word] + SATURATION * longer)
            for word in words
            if word in counts
        )

    def _rarity(self, word: str) -> float:
        holding = self._holding[word]
        return math.log(1 + (len(self._documents) - holding + 0.5) / (holding + 0.5))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())

"""What a job of benchmarks/nap_worker.py is told in its message, and what its result says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Nap:
    """The tokens that the job will have used, and for how long it sleeps: anything between two times."""

    input_tokens: int = 0
    output_tokens: int = 0
    least_s: float = 0.0
    most_s: float = 0.0

    def said(self) -> str:
        """As the message's content."""
        return f"{self.input_tokens} {self.output_tokens} {self.least_s} {self.most_s}"

    @classmethod
    def heard(cls, content: str) -> Nap:
        """From the message's content; words after the first four are padding."""
        given, made, least_s, most_s = content.split()[:4]
        return cls(int(given), int(made), float(least_s), float(most_s))


@dataclass(frozen=True)
class Begun:
    """When a job was taken, by the server's clock in ms, and when its handler began, in seconds; both Unix times."""

    taken_ms: int
    began_s: float

    def said(self) -> str:
        """As the result's text."""
        return f"{self.taken_ms} {self.began_s:.6f}"

    @classmethod
    def heard(cls, text: str) -> Begun:
        """From the result's text."""
        taken_ms, began_s = text.split()
        return cls(int(taken_ms), float(began_s))

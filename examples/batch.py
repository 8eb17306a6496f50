"""Submit a batch and handle each result as it comes; one bad job hurts nobody else."""

from collections import Counter

from producer_sdk import Fleet, Job, Message

QUESTIONS = [
    "Where is my parcel?",
    "I want my money back.",
    "Let me talk to a person.",
    "Is the blue one in stock?",
]
INSTRUCTIONS = Message(
    role="system",
    content="Answer with one label:\n- order_status: where\n- refund_status: money\n- talk_to_human: person",
    cache_key="support-labels-v2",
)


def main() -> None:
    """Twenty-five rounds of four questions: from the second round on most answers come from the exact cache."""
    jobs = [
        Job(
            tenant="globex",
            task="classify_intent",
            lane="batch",
            messages=[INSTRUCTIONS, Message(role="user", content=question)],
        )
        for _round in range(25)
        for question in QUESTIONS
    ]
    ends: Counter[str] = Counter()
    with Fleet() as fleet:
        for handle in fleet.as_completed(fleet.submit_many(jobs), timeout=120):
            result = handle.wait()
            ends[str(result.error.code) if result.error else f"{result.text} (cache: {result.cache})"] += 1
    for end, count in ends.most_common():
        print(f"{count:4}  {end}")  # noqa: T201 - a program for people


if __name__ == "__main__":
    main()

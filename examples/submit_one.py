"""Submit one job and wait for its answer: `fairlane up` in one terminal, `python examples/submit_one.py` in another."""

from producer_sdk import Fleet, JobEnded

INSTRUCTIONS = """Answer with one label of this list and nothing else:
- order_status: where is my order, has it been sent
- refund_status: when do I get my money back
- talk_to_human: connect me to a person"""


def main() -> None:
    """Ask once; the instructions are a static segment that providers may cache."""
    with Fleet() as fleet:
        job = fleet.submit(
            tenant="acme",
            task="classify_intent",
            messages=[
                {"role": "system", "content": INSTRUCTIONS, "cache_key": "support-labels-v1"},
                {"role": "user", "content": "I would like to speak to a person, please."},
            ],
            idempotency_key="ticket-4711",  # submitting it again gives the same job, not a second call
        )
        try:
            result = job.result(timeout=30)
        except JobEnded as ended:
            print(f"No answer: {ended}")  # noqa: T201 - a program for people
        else:
            print(f"{result.text} ({result.model}, {result.cost_usd} USD, {result.latency_ms} ms)")  # noqa: T201


if __name__ == "__main__":
    main()

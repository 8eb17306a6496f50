"""Documents become vectors: `python examples/ingest.py documents.jsonl vectors.jsonl` (or a .csv with id and text)."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from producer_sdk import Fleet, Job

INPUTS_A_JOB = 100


def chunks(path: Path) -> Iterator[tuple[str, str]]:
    """Each paragraph of each document, with a name."""
    with path.open(encoding="utf-8", newline="") as file:
        documents = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file)
        for document in documents:
            paragraphs = [one.strip() for one in document["text"].split("\n\n") if one.strip()]
            for number, paragraph in enumerate(paragraphs):
                yield f"{document['id']}#{number}", paragraph


def main(documents: Path, vectors: Path) -> None:
    """One job for each hundred chunks."""
    found = list(chunks(documents))
    parts = [found[at : at + INPUTS_A_JOB] for at in range(0, len(found), INPUTS_A_JOB)]
    jobs = [
        Job(tenant="acme", task="embed_documents", lane="batch", inputs=[text for _name, text in part])
        for part in parts
    ]
    cost = 0
    with Fleet() as fleet, vectors.open("w", encoding="utf-8") as written:
        for part, handle in zip(parts, fleet.submit_many(jobs, wait_s=60), strict=True):
            result = handle.result(timeout=120)
            cost += result.cost_usd
            for (name, _text), vector in zip(part, result.embeddings, strict=True):
                written.write(json.dumps({"id": name, "model": result.model, "vector": vector}) + "\n")
    print(f"{len(found)} chunks in {len(jobs)} jobs, {cost:f} USD")  # noqa: T201 - a program for people


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

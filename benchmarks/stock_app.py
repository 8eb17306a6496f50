"""The baseline: stock Celery with its threads pool, a task that does nothing, and one that makes a call."""

import os
import threading

import httpx
from celery import Celery

app = Celery("stock", broker=os.environ["STOCK_BROKER"], backend=os.environ["STOCK_BACKEND"])
app.conf.update(task_serializer="json", accept_content=["json"], worker_prefetch_multiplier=4)
LOCAL = threading.local()


@app.task(name="stock.noop")
def noop(job: dict) -> dict:
    """Return what a job would."""
    return {"job_id": job["job_id"], "status": "succeeded", "error": None}


@app.task(name="stock.call")
def call(job: dict) -> dict:
    """One streamed call, with a client per thread."""
    if not hasattr(LOCAL, "client"):
        LOCAL.client = httpx.Client(timeout=60)
    body = {"model": "twin-small", "stream": True, "messages": job["messages"]}
    with LOCAL.client.stream(
        "POST", os.environ["FAIRLANE_LOCAL_URL"] + "/chat/completions", json=body
    ) as response:
        for _chunk in response.iter_bytes():
            pass
    return {"job_id": job["job_id"], "status": "succeeded", "error": None}

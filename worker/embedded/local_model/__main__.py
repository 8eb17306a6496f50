"""The process that serves the model, until SIGTERM. Both wire formats, on the loopback interface alone."""

from __future__ import annotations

import argparse
import threading

import xllamacpp

from worker.embedded.local_model.server import MODEL
from worker.embedded.ports import LOOPBACK

SLOTS = 2
CONTEXT_TOKENS = 4096  # of each slot; docs/operations.md and routing.yaml say so too


def main() -> None:
    """Load, serve, wait to be ended."""
    parser = argparse.ArgumentParser(prog="worker.embedded.local_model", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.model_alias = {MODEL}
    params.hostnames = [LOOPBACK]
    params.port = given.port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.cpuparams.n_threads = given.threads
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()

"""The app for this environment: `python -m worker.main worker` runs it, `celery -A worker.main flower` shows it."""

import sys

from worker.app import build_app, run
from worker.settings import WorkerSettings

app = build_app(WorkerSettings.from_env())

if __name__ == "__main__":
    run(app, sys.argv[1:])

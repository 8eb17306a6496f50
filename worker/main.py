"""What `celery -A worker.main worker` and `celery -A worker.main flower` load: the app for this environment."""

from worker.app import build_app
from worker.settings import WorkerSettings

app = build_app(WorkerSettings.from_env())

"""Results in the shape of Celery's Redis result backend, written with the ack, fenced by the delivery."""

"""Retries: one budget per tenant for whoever repeats work, the worker, Celery or an agent that resubmits."""

"""Reload: a fleet's workers change to a new routing.yaml together, without a restart, for new jobs only."""

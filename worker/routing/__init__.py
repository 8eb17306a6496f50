"""Routing: the order in which a job's deployments are tried, and why each other one is left out."""

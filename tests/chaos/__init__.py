"""Processes are killed at random moments and at every boundary; then the books are compared."""

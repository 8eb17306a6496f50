"""Fallback: after a failed attempt, here again, the next deployment, later, or an end; under one deadline."""

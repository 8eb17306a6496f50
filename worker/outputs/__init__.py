"""Outputs: an answer is the job's only if it cites what it was given and has the form that was asked for."""

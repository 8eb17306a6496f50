"""Policy: which models a tenant may use for a task, and within which limits."""

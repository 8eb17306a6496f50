"""Budgets: no attempt is called whose highest possible cost would take a tenant over its limit."""

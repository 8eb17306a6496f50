"""What the worker says about itself: logs, metrics and events. Never prompts, answers or keys."""

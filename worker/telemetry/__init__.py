"""What the worker says about itself: JSON logs. Never prompts, answers or keys."""

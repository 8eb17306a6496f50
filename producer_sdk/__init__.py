"""What a product installs to submit LLM jobs to a Fairlane fleet: `from producer_sdk import Fleet`."""

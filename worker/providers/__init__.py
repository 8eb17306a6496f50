"""The call itself: one HTTP client, two wire formats, and what each way of failing means."""

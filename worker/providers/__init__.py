"""The call itself: one HTTP client, three wire formats, and what each way of failing means."""

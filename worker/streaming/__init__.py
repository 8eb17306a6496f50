"""Streaming: an answer is given to its producer as it comes."""

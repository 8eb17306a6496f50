"""A real model on this machine, without a key: llama.cpp's server, and the small GGUF that comes in a wheel."""

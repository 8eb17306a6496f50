"""What makes one command a whole fleet on a bare machine: the embedded broker, the twin, a local model, the demo."""

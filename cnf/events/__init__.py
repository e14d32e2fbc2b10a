"""Events that the program reports as they happen: read from the ring buffer, and kept for clients."""

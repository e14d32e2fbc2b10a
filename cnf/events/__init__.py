"""Events that the program reports as they happen: read from the ring, and kept for clients."""

"""Flows: read from the kernel's tables once a drain, expired, summed, kept as a snapshot, and asked for."""

"""Flows: read from the kernel's tables at each drain, expired, summed, kept as a snapshot, and selected."""

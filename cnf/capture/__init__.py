"""Capturing: frames with their verdicts, from the ring that the program copies them into to pcapng and JSON."""

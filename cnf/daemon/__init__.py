"""The daemon: composition of all parts, the start-up list, the loop, reload and handover."""

"""The interfaces of the configuration: which exist, which carry the program, and what each has counted."""

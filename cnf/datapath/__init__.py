"""Our program and its maps: what to build, the building of it, and typed access to what it counts."""

"""``cnfctl export``."""

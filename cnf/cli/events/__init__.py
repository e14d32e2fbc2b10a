"""``cnfctl events``."""

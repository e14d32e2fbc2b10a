"""``cnfctl flows``."""

"""``cnfctl capture``."""

"""``cnfctl doctor``."""

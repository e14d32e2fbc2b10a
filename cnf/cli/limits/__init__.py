"""``cnfctl limits``."""

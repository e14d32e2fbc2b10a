"""What cnfctl shows: tables, units, warnings, and a display that repeats."""

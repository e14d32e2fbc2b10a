"""The views of cnfctl: tables, units, warnings, and a display that repeats."""

"""The views of cnfctl: tables, warnings, and a display that repeats."""

"""Flow records for other machines."""

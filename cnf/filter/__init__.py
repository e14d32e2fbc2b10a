"""The filter expressions of ``cnfctl flows``: grammar, values, and predicates on columns. Pure."""

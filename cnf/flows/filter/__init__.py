"""The filter expressions of ``cnfctl flows``: grammar, values, and predicates over columns. Pure."""

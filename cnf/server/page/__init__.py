"""The page of a node at ``/``: tables and charts in HTML that the daemon makes, without scripts."""

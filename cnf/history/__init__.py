"""What each minute had, kept on this node."""

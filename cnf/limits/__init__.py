"""The rules of ``[limits]``: read, changed at run time, worked out and laid out for the kernel. Pure."""

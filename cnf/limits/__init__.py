"""What the rules of ``[limits]`` say: read, changed at run time, worked out and laid out for the kernel. Pure."""

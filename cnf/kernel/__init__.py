"""All that touches the kernel, and nothing else does."""

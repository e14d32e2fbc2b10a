"""The limits in force in the kernel: rule sets written to its maps, and the sources that have a bucket."""

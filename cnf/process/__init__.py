"""The process: signals, systemd, the lock, the log, the garbage collector."""

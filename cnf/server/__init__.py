"""What clients are answered: the metrics for Prometheus, and the control socket for cnfctl."""

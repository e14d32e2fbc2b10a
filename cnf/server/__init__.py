"""The two HTTP servers: metrics for Prometheus, and the control socket for cnfctl."""

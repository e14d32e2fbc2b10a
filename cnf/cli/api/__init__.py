"""Questions of cnfctl to cnfd: the client, and the answers, checked against their types."""

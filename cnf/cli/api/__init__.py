"""What cnfctl asks of cnfd: the client, and the answers, checked against their types."""

"""Bridges to Go services, each with a circuit breaker."""

"""What operators see and do: admin endpoints, metrics, logs, tracing."""

"""Looking at running processes: observer, SASL reports in the log, metrics from telemetry."""

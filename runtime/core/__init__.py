"""The process and the engines that run it: pids, signals, links, scheduling, crash reports, telemetry."""

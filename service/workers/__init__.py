"""The life of worker processes: start, probe, restart with back-off, stop."""

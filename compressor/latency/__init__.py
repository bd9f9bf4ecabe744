"""Latency as a target: a table of measured times, and the cost model that it gives."""

"""Speed where compute dominates: `python -m bench.speed`."""

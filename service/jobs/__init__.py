"""Compression jobs: the queue (RQ on Redis), their records, and the process that runs them."""

"""Routing: pure policies that choose a worker."""

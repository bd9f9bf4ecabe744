"""Measures times of layers and requests in the real serving engine, in a process of its own."""

"""Evaluation: datasets, metrics, and a runner that asks a model in process."""

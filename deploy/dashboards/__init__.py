"""Grafana's dashboards and provisioning, written in Python: `python -m deploy.dashboards`."""

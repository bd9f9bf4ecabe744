"""Errors that only an operator at a command line meets; branches of the tree in `service/errors.py`."""

from __future__ import annotations

from service.errors import ServiceError


class PortInUseError(ServiceError):
    """The gateway's port is taken."""


class RunDirectoryInUseError(ServiceError):
    """Another supervisor has the run directory."""


class StoreError(ServiceError):
    """The embedded Valkey did not start."""


class SettingsError(ServiceError):
    """A setting is missing or wrong."""


class HubError(ServiceError):
    """A model of the hub may not, or cannot, be fetched."""

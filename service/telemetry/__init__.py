"""What the service tells of itself: metrics, structured logs, traces.

`catalogue.py` names every metric; `logs.py` and `tracing.py` are used by all processes.
"""

from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics, Series

__all__ = ["Metrics", "Series", "configure_logging"]

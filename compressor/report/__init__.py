"""The evidence that goes with a compressed model: numbers, a model card, and a page to look at.

`data.py` says what is measured and told, `card.py` writes it for the hub, `charts.py` and `page.py`
for people; `write.py` puts them into a checkpoint.
"""

from __future__ import annotations

from compressor.report.data import Report, Side

__all__ = ["Report", "Side"]

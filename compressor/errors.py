"""The one error tree of the compressor. Every message is one sentence that says what to do."""

from __future__ import annotations


class CompressorError(Exception):
    """Anything that a user of the compressor can put right."""


class RecipeError(CompressorError):
    """The recipe is malformed: an unknown key, a wrong value, an impossible budget."""


class BudgetError(RecipeError):
    """The budget cannot be met by this model."""


class CheckpointError(CompressorError):
    """A model directory is missing, truncated, pickled, or otherwise not a model."""


class DiskFullError(CheckpointError):
    """There was no space left; what is finished stays, so that the same command goes on."""


class UnsupportedArchitectureError(CompressorError):
    """No family knows this architecture."""


class CalibrationError(CompressorError):
    """The calibration data or the model's activations say nothing that scores could be made of."""


class DatasetError(CompressorError):
    """An evaluation or calibration dataset is unknown or not installed."""


class LatencyError(CompressorError):
    """Times are needed and cannot be measured."""


class Cancelled(CompressorError):  # noqa: N818 - not a fault
    """The caller asked the pipeline to stop."""

"""One layer at one stage: read what is there of it, compute, leave a piece.

Each is a function of its own so that nothing of a layer outlives it: a loop's variables would keep the
last layer's matrices and covariances in memory while the next one's are made.
"""

from __future__ import annotations

from collections.abc import Sequence

from compressor.calibrate import LayerStatistics, calibrate_layer
from compressor.export import stored_dtype
from compressor.families import TowerSpec
from compressor.job import Job, passed_piece, pruned_piece, scores_piece, statistics_piece
from compressor.loading import distinct, linear_at
from compressor.plan import PlannedLayer
from compressor.prune import prune_layer, run_both
from compressor.scoring import score_layer
from compressor.streams import Stream
from compressor.work import Work


def calibrate_one(job: Job, spec: TowerSpec, index: int, stream: Stream) -> None:
    """Collect a layer's statistics, where its tower is in scope, and move the stream behind it."""
    measured = spec.name in job.recipe.towers
    found = calibrate_layer(job.model.block(spec, index), spec, stream, measure=measured)
    if found is not None:
        job.work.save_tensors(statistics_piece(spec, index), found.tensors())
    job.work.save_json(passed_piece(spec, index), True)
    stream.advance()


def score_one(job: Job, spec: TowerSpec, index: int) -> None:
    """Score a layer by its statistics."""
    tensors = job.work.load_tensors(statistics_piece(spec, index))
    statistics = LayerStatistics.of_tensors({k: v.to(job.device) for k, v in tensors.items()})
    block = spec.blocks(job.model.model)[index]  # as it is in the file: scoring computes in float64
    paths = (*spec.projections, *spec.matrices)
    matrices = {path: linear_at(block, path).weight.data.to(job.device) for path in paths}
    found = score_layer(matrices, statistics, spec)
    job.work.save_json(scores_piece(spec, index), found.to_json())


def prune_one(
    job: Job,
    work: Work,
    spec: TowerSpec,
    index: int,
    layer: PlannedLayer | None,
    streams: Sequence[Stream],
) -> None:
    """Prune a layer by its plan and move the original's and the compressed model's streams behind it.

    Without a plan for its tower the layer stays, and only the streams move.
    """
    original = job.model.block(spec, index)
    planned = layer or PlannedLayer(**spec.dense_layer().model_dump())
    block = prune_layer(original, spec, planned, streams[0], streams[1], ridge=job.recipe.ridge)
    run_both(original, block, streams[0], streams[1])
    kept, dtype = block.state_dict() if layer else {}, stored_dtype(job.config)
    work.save_tensors(
        pruned_piece(spec, index), {k: kept[k].to("cpu", dtype) for k in distinct(kept)}
    )
    for stream in streams:
        stream.advance()

"""Make a CUDA build of torchvision importable beside a CPU build of torch.

The package registry's torchvision is a CUDA build. Beside a CPU torch its extension cannot be
loaded, and `import torchvision` dies with "operator torchvision::nms does not exist", because its
Python code registers fake kernels for operators whose schemas the extension would have declared.
Pre-processing for LLaVA and CLIP runs none of them, so declaring the schemas is enough.

vLLM starts several processes and imports transformers early in each, so this is run by a `.pth`
file at interpreter start (`deploy/infoprune_torchvision.pth`). It costs one import hook; nothing
is imported until torchvision is. Where the extension loads, nothing is declared.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_ROI = "Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width"
_GRAD = (
    "Tensor grad, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int batch_size, int channels, int height, int width"
)
_DEFORM = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, "
    "SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask"
)
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_ROI}, int sampling_ratio, bool aligned) -> Tensor",
    f"qroi_align({_ROI}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward({_GRAD}, int sampling_ratio, bool aligned) -> Tensor",
    f"ps_roi_align({_ROI}, int sampling_ratio) -> (Tensor, Tensor)",
    f"_ps_roi_align_backward({_GRAD}, int sampling_ratio, Tensor channel_mapping) -> Tensor",
    f"roi_pool({_ROI}) -> (Tensor, Tensor)",
    f"_roi_pool_backward({_GRAD}, Tensor argmax) -> Tensor",
    f"ps_roi_pool({_ROI}) -> (Tensor, Tensor)",
    f"_ps_roi_pool_backward({_GRAD}, Tensor channel_mapping) -> Tensor",
    f"deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_DEFORM})"
    " -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask,"
    f" Tensor bias, {_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


class _TorchvisionFinder(MetaPathFinder):
    """Declares the schemas just before torchvision is first imported; finds nothing itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            declare_missing_operators()
        return None


def install() -> None:
    """Register the import hook, once per process."""
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())


def declare_missing_operators() -> bool:
    """Declare torchvision's operator schemas if its extension cannot be loaded.

    Returns:
        True if they were declared, False where torchvision works or is not installed.
    """
    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    import torch  # only now: this module runs at every interpreter start

    try:
        for extension in sorted(Path(spec.origin).parent.glob("_C*.so")):
            torch.ops.load_library(str(extension))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for schema in SCHEMAS:
            library.define(schema)
        # A Library withdraws its definitions when it is collected.
        sys.modules[__name__].__dict__["_library"] = library
        return True
    return False

"""What `deploy/install.py` decides, apart from what it does: no process, no network."""

from __future__ import annotations

import enum
import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# What an engine asks for and this script chooses itself, or leaves out: the audio and video
# packages are CUDA builds (or want FFmpeg), and transformers dies when it finds one broken.
CHOSEN_HERE = frozenset({"torch", "torchvision"})
LEFT_OUT = ("torchaudio", "torchcodec")


class TorchSource(enum.Enum):
    """Where a CPU machine's torch comes from."""

    INDEX = "PyTorch's CPU wheel index"
    LOCAL = "the CPU wheel that pip is configured to find"
    CUDA = "the registry's CUDA build, a download of more than 2 GB, as no CPU build was found"


def choose_extra(requested: str | None, *, driver_answers: bool) -> str:
    """The extra that brings the engine."""
    return requested or ("gpu" if driver_answers else "cpu")


def choose_torch(*, index_answers: bool, local_versions: Sequence[str], wanted: str) -> TorchSource:
    """Where torch comes from on a CPU machine."""
    if index_answers:
        return TorchSource.INDEX
    return TorchSource.LOCAL if f"{wanted}+cpu" in local_versions else TorchSource.CUDA


def torch_arguments(source: TorchSource, pins: Sequence[str], index: str) -> list[str]:
    """pip's arguments for torch and torchvision."""
    if source is TorchSource.INDEX:
        # Their own dependencies come with everything else, from the registry.
        return ["--no-deps", "--index-url", index, *pins]
    return [*pins]


def project_arguments(target: str, *, editable: bool) -> list[str]:
    """pip's arguments for this project: a link to the checkout, or a copy of it."""
    return ["-e", target] if editable else [target]


def project_name(requirement: str) -> str:
    """The normalised name in a requirement line: `Foo_Bar[x]>=1; m` is `foo-bar`."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", name.group()).lower() if name else ""


def engine_requirements(metadata: str) -> list[str]:
    """What a wheel's METADATA asks for, less extras and what this script decides itself."""
    header = metadata.split("\n\n", 1)[0]
    wanted = re.findall(r"^Requires-Dist: (.+)$", header, flags=re.MULTILINE)
    skip = CHOSEN_HERE.union(LEFT_OUT)
    return [line for line in wanted if "extra ==" not in line and project_name(line) not in skip]


def extra_pins(pyproject: str, extra: str) -> list[str]:
    """The requirements that pyproject.toml lists for an extra."""
    import tomllib  # 3.11, which install.py has checked by now

    pins = tomllib.loads(pyproject)["project"]["optional-dependencies"][extra]
    return [str(pin) for pin in pins]


def fingerprint(root: Path, venv: Path, files: Sequence[str]) -> str:
    """A hash of everything an installation depends on, its place included."""
    digest = hashlib.sha256(str(venv.resolve()).encode())
    for name in files:
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def is_current(stamp: object, wanted_hash: str, extra: str | None, *, dev: bool) -> bool:
    """Whether the last whole installation has what is asked for now, or more."""
    if not isinstance(stamp, dict) or stamp.get("hash") != wanted_hash:
        return False
    return extra in {None, stamp.get("extra")} and (stamp.get("dev") is True or not dev)

"""A Python environment with everything that this one has, except this project."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from compressor import torchvision_cpu

OURS = ("compressor", "service")


@dataclass(frozen=True)
class BareEnvironment:
    """Its interpreter, and the variables to run it with."""

    python: Path
    variables: dict[str, str]


def bare_environment(directory: Path) -> BareEnvironment:
    """Make one: a new venv whose site-packages are links to this one's.

    The project is left out by what its distribution has installed: finder, entry points, start-up hook.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    python = directory / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    found = subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True)
    target = Path(found.stdout.strip())
    files = distribution("infoprune").files or []
    left_out = {*OURS, *(file.parts[0] for file in files), "sitecustomize.py", "__pycache__"}
    for name in ("purelib", "platlib"):
        for entry in sorted(Path(sysconfig.get_paths()[name]).iterdir()):
            link = target / entry.name
            if entry.name not in left_out and not link.exists():
                link.symlink_to(entry)
    # Only because of the torchvision of machines like this one, a CUDA build beside a CPU torch, which
    # no program can import: the start-up hook as a file that stands alone. Where torchvision works, it
    # does nothing.
    shim = Path(torchvision_cpu.__file__).read_text()
    (target / "sitecustomize.py").write_text(f"{shim}\n\ninstall()\n")
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    return BareEnvironment(python, kept | {"PYTHONNOUSERSITE": "1"})

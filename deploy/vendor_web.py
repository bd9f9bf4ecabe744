"""Take the web pages' libraries from npm into the package: `python -m deploy.vendor_web`.

Only for who changes a version: what is served lies in the repository. `npm pack` checks the registry's
own digests; the sha256 of every file goes into `vendor.json` beside the files, and a test holds them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVED = ROOT / "service" / "web" / "vendor"
API_DOCS = ROOT / "service" / "gateway" / "api_docs" / "vendor"
FOR_TESTS = ROOT / "tests" / "browser" / "vendor"
RECORD = "vendor.json"


@dataclass(frozen=True)
class Package:
    """A pinned npm package and the files of it that are kept."""

    name: str
    version: str
    licence: str
    files: tuple[str, ...]
    """Paths in the package, its licence's text among them."""


PACKAGES: dict[Path, tuple[Package, ...]] = {
    SERVED: (
        Package("lit-html", "3.3.3", "BSD-3-Clause", ("lit-html.js", "LICENSE")),
        Package(
            "uplot", "1.6.32", "MIT", ("dist/uPlot.esm.js", "dist/uPlot.min.css", "LICENSE")
        ),
    ),
    API_DOCS: (
        Package(
            "swagger-ui-dist",
            "5.35.0",
            "Apache-2.0",
            (
                "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css", "LICENSE",
                "NOTICE",
            ),
        ),
    ),
    FOR_TESTS: (Package("axe-core", "4.14.1", "MPL-2.0", ("axe.min.js", "LICENSE")),),
}  # fmt: skip


def vendor(place: Path, packages: Sequence[Package]) -> None:
    """Replace what lies in `place` by these packages' files and their record."""
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "made"
        record = [_take(package, Path(temporary), made) for package in packages]
        (made / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(made, place)


def _take(package: Package, temporary: Path, made: Path) -> dict[str, object]:
    """Unpack one package's files; what `vendor.json` says of it."""
    wanted = f"{package.name}@{package.version}"
    command = ["npm", "pack", wanted, "--json", "--pack-destination", str(temporary)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (packed,) = json.loads(done.stdout)
    target = made / package.name
    target.mkdir(parents=True)
    digests = {}
    with tarfile.open(temporary / packed["filename"]) as archive:
        for path in package.files:
            found = archive.extractfile(f"package/{path}")
            assert found is not None, path
            content = found.read()
            name = Path(path).name
            (target / name).write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
    return {
        "name": package.name,
        "version": package.version,
        "licence": package.licence,
        "integrity": packed["integrity"],
        "sha256": digests,
    }


def main() -> None:
    """Take all of them."""
    for place, packages in PACKAGES.items():
        vendor(place, packages)
        print(f"{place.relative_to(ROOT)}: {', '.join(p.name for p in packages)}")


if __name__ == "__main__":
    main()

"""A fake engine in vLLM's place: what the service starts as `python -m vllm...api_server`.

`fake_vllm(directory)` writes a package named `vllm` that ends up here; with it first on PYTHONPATH the
real supervisor starts, probes and stops workers that answer "yes".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from tests.support.fake_openai import create_fake

_MODULE = "from tests.support.fake_vllm import main\n\nmain()\n"


def fake_vllm(directory: Path) -> Path:
    """Write the package; returns what goes on PYTHONPATH."""
    package = directory / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "api_server.py").write_text(_MODULE)
    return directory


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    given, _ = parser.parse_known_args()
    app = create_fake(given.served_model_name)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="critical")

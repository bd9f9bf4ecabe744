"""Runs a page of the documentation as its reader would, in an empty directory."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from service.workers.manager import free_port
from service.workers.process import GuardedProcess
from tests.conftest import FACTOR
from tests.support.doc_blocks import Block, blocks, expected, occurs
from tests.support.servers import ROOT

PORT = 8080  # the one that pages name
BLOCK_LIMIT_S = 300 * FACTOR
START_LIMIT_S = 600 * FACTOR
STOP_LIMIT_S = 30
# The model is a tiny one with random weights, of which nothing is to be learned from more questions.
SAMPLES = 16
SIZES: dict[str, dict[str, Any]] = {
    "calibration": {"samples": SAMPLES},
    "evaluation": {"samples": SAMPLES, "validation_samples": 50},
    "training": {"steps": 2},
    "recovery": {"steps": 2, "samples": SAMPLES},
}
_SAMPLES = re.compile(r"(--samples |\"samples\": )[1-9]\d*")
_INLINE = re.compile(r"(?P<option>--recipe|-r) '(?P<recipe>[^']+)'")


@dataclass
class Reader:
    """Someone who follows a page: a directory, an environment, and what they left running."""

    place: Path
    engine: Path | None = None
    """A fake engine's package; None = real vLLM."""
    small: bool = True
    """Whether questions and steps are as few as `SIZES` says, and not as many as the page says."""
    port: int = field(default_factory=free_port)
    running: list[GuardedProcess] = field(default_factory=list)

    def follow(self, text: str, skipped: Callable[[Block], None]) -> int:
        """Do what a page says, block by block; the number of blocks that ran."""
        found = blocks(text)
        done = 0
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.skip:
                skipped(block)
            elif block.kind in {"command", "program", "file"}:
                self._do(block, expected(block, following, text))
                done += 1
        return done

    def stop(self) -> None:
        """Stop what runs in the background."""
        while self.running:
            self.running.pop().stop()

    def serve(self, *models: str) -> None:
        """What a page that needs a service finds."""
        self._begin(f"infoprune serve {' '.join(models)} --no-auth")

    def _do(self, block: Block, lines: list[str]) -> None:
        text = self._adapted(block.text)
        if block.kind == "file":
            target = self.place / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            is_recipe = self.small and target.suffix == ".yaml"
            target.write_text(smaller(text) if is_recipe else text)
        elif block.background:
            self.stop()
            self._begin(text)
        else:
            output = self._run(block, text)
            for line in lines:
                assert occurs(self._adapted(line), output), (
                    f"line {block.line}: {line!r} is not in\n{output}"
                )

    def _run(self, block: Block, text: str) -> str:
        program = ["bash", "-euo", "pipefail"] if block.kind == "command" else [sys.executable]
        done = subprocess.run(
            [*program, "-c", text], cwd=self.place, env=self._environment(), check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BLOCK_LIMIT_S,
        )  # fmt: skip
        assert done.returncode == 0, f"line {block.line}: {text}\n{done.stdout[-4000:]}"
        return done.stdout

    def _begin(self, text: str) -> None:
        # By env, as a command may begin with variables.
        command = ["bash", "-c", f"cd {shlex.quote(str(self.place))} && exec env {text.strip()}"]
        log = self.place / "service.log"
        process = GuardedProcess(command, env=self._environment(), log=log, grace_s=STOP_LIMIT_S)
        self.running.append(process)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._all_ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)

    def _all_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/ready", timeout=5
            ) as response:
                return all(json.load(response)["models"].values())
        except (OSError, urllib.error.HTTPError):
            return False

    def _adapted(self, text: str) -> str:
        found = re.sub(rf"\b(localhost|127\.0\.0\.1):{PORT}\b", rf"\1:{self.port}", text)
        if not self.small:
            return found
        found = _SAMPLES.sub(rf"\g<1>{SAMPLES}", found)
        return _INLINE.sub(lambda m: f"{m['option']} '{smaller(m['recipe'])}'", found)

    def _environment(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("INFOPRUNE_")}
        kept.pop("REDIS_URL", None)
        path = [str(ROOT)] if self.engine is None else [str(self.engine), str(ROOT)]
        return kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(path),
            "PORT": str(self.port),
            "HOME": str(self.place),
            "COLUMNS": "120",
            "INFOPRUNE_WORKER_START_TIMEOUT_S": str(START_LIMIT_S),
            "INFOPRUNE_CACHE_DIR": str(self.place / "cache"),
        }


def smaller(recipe: str) -> str:
    """A recipe with few questions and steps; sections that train appear only where they were."""
    content = yaml.safe_load(recipe)
    for name, sizes in SIZES.items():
        if name in content or name in {"calibration", "evaluation"}:
            content[name] = {**content.get(name, {}), **sizes}
    return json.dumps(content)


@dataclass(frozen=True)
class Models:
    """What stands for the models that pages name."""

    bundled: Path
    """For `models/shapes-llava`."""
    own: Path
    """For `my-llava`."""
    half: Path | None = None
    """For `my-llava-half`."""


def prepare(reader: Reader, needs: frozenset[str], models: Models) -> None:
    """Put what a page needs into the reader's directory, and start what it needs."""
    place = reader.place
    if "bundled" in needs:
        shutil.copytree(models.bundled, place / "models" / "shapes-llava")
    if "model" in needs:
        shutil.copytree(models.own, place / "my-llava")
    if "half" in needs:
        assert models.half is not None
        shutil.copytree(models.half, place / "my-llava-half")
    if "served" in needs:
        reader.serve(*sorted(path.name for path in place.glob("my-llava*")))

"""A server that speaks S3 (moto's), as a process on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from service.workers.manager import free_port
from tests.support.servers import answers, running, wait_until

BUCKET = "models"


@contextmanager
def s3_server(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a bucket; this process and those that it starts find the server by the environment."""
    port = free_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with running("moto.server", "-H", "127.0.0.1", "-p", str(port), log=log):
        wait_until(lambda: answers(port, "/"), timeout_s=120.0)
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdir(BUCKET)
        yield f"s3://{BUCKET}/store"
    fsspec.filesystem("s3").clear_instance_cache()

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.command import read_settings
from service.operator_errors import SettingsError
from service.settings import Settings


def test_a_child_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        port=1234,
        run_dir=Path("somewhere"),
        worker_extra_args=("--max-num-seqs", "4"),
        worker_max_model_len=99,
    )
    for name, value in settings.to_environment("redis://there/0").items():
        monkeypatch.setenv(name, value)

    assert Settings() == settings.model_copy(update={"redis_url": "redis://there/0"})


def test_the_short_names_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOPRUNE_PORT", "1111")
    monkeypatch.setenv("PORT", "2222")
    assert Settings().port == 2222


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOPRUNE_MAX_BODY_BYTES", "much")
    with pytest.raises(SettingsError, match="MAX_BODY_BYTES is wrong"):
        read_settings()


def test_without_a_store_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(SettingsError, match="infoprune serve"):
        Settings().require_redis_url()


def test_secrets_are_read_from_files_of_mounted_directories(tmp_path: Path) -> None:
    """In a process of its own: where the directories are is read once."""
    for name, value in {"redis_url": "redis://:x@there/0", "infoprune_api_key": "ip-1"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(value + "\n")
    code = "from service.settings import Settings as S; print(S().redis_url, S().api_key, S().port)"
    directories = os.pathsep.join(str(tmp_path / n) for n in ("redis_url", "infoprune_api_key"))
    environment = {k: v for k, v in os.environ.items() if k not in {"REDIS_URL", "PORT"}}
    environment |= {"INFOPRUNE_SECRETS_DIR": directories, "INFOPRUNE_PORT": "1234"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["redis://:x@there/0", "ip-1", "1234"], done.stderr


def test_workers_are_advertised_only_where_they_can_be_reached() -> None:
    with pytest.raises(ValueError, match="cannot be reached as gpu-3"):
        Settings(worker_advertise="gpu-3")
    assert Settings(worker_advertise="gpu-3", worker_host="0.0.0.0").worker_advertise == "gpu-3"

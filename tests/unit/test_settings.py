from __future__ import annotations

from pathlib import Path

import pytest

from service.command import read_settings
from service.errors import SettingsError
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

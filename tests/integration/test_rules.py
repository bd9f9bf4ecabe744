"""Prometheus' own tool on this project's rules and configuration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.prometheus import CONFIGURATION, program


def promtool(*arguments: str, where: Path = CONFIGURATION) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), *arguments]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def test_the_configuration_and_its_rules_are_valid() -> None:
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_where_they_should_and_only_there() -> None:
    tests = sorted(str(p.relative_to(CONFIGURATION)) for p in CONFIGURATION.glob("tests/*.yml"))
    assert tests
    done = promtool("test", "rules", *tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_no_longer_fires_is_found_out(tmp_path: Path) -> None:
    shutil.copytree(CONFIGURATION, tmp_path, dirs_exist_ok=True)
    alerts = tmp_path / "alerts.yml"
    alerts.write_text(alerts.read_text().replace("> 1800", "> 180000"))
    done = promtool("test", "rules", "tests/jobs.yml", where=tmp_path)
    assert done.returncode != 0
    assert "InfoPruneJobsStuck" in done.stdout + done.stderr

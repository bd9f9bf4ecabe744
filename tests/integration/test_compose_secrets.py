"""deploy/secrets.sh, in a copy of deploy/: what it writes, for whom, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from redis import Redis

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("grafana_password", "redis_password", "redis_url")


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """`deploy/` with nothing but the script."""
    found = tmp_path / "deploy"
    found.mkdir()
    shutil.copy(ROOT / "deploy" / "secrets.sh", found)
    return found


def run(deploy: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["sh", "deploy/secrets.sh"], cwd=deploy.parent, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def state(directory: Path) -> dict[str, tuple[str, int, int, int]]:
    """Content, inode, mode and time of every file."""
    found = {path: path.stat() for path in directory.iterdir()}
    return {
        path.name: (path.read_text(), now.st_ino, now.st_mode, now.st_mtime_ns)
        for path, now in found.items()
    }


def test_it_writes_all_secrets_for_the_containers_and_no_other_user(deploy: Path) -> None:
    done = run(deploy)
    assert (done.returncode, done.stderr) == (0, "")
    secrets = deploy / "secrets"
    assert mode(secrets) == 0o700
    assert {path.name: mode(path) for path in secrets.iterdir()} == dict.fromkeys(NAMES, 0o444)
    values = {name: (secrets / name).read_text().strip() for name in NAMES}
    for name in ("grafana_password", "redis_password"):
        assert len(bytes.fromhex(values[name])) == 24
    assert values["grafana_password"] != values["redis_password"]
    assert done.stdout.splitlines() == [
        f"Wrote {secrets}/{name}" for name in ("redis_password", "grafana_password", "redis_url")
    ]
    assert not any(value in done.stdout for value in values.values()), "no secret is printed"


def test_the_url_names_the_store_and_its_password(deploy: Path) -> None:
    assert run(deploy).returncode == 0
    client = Redis.from_url((deploy / "secrets" / "redis_url").read_text().strip())
    told = client.get_connection_kwargs()
    password = (deploy / "secrets" / "redis_password").read_text().strip()
    assert {name: told[name] for name in ("host", "port", "db", "password")} == {
        "host": "store",
        "port": 6379,
        "db": 0,
        "password": password,
    }


def test_a_second_run_changes_nothing(deploy: Path) -> None:
    assert run(deploy).returncode == 0
    before = state(deploy / "secrets")
    done = run(deploy)
    assert done.returncode == 0
    assert done.stdout == f"All secrets are in {deploy / 'secrets'} already.\n"
    assert state(deploy / "secrets") == before


def test_only_what_is_missing_is_written(deploy: Path) -> None:
    assert run(deploy).returncode == 0
    before = state(deploy / "secrets")
    for name in ("redis_password", "redis_url"):
        (deploy / "secrets" / name).unlink()
    assert run(deploy).returncode == 0
    after = state(deploy / "secrets")
    assert set(after) == set(NAMES)
    changed = {name for name in NAMES if after[name][0] != before[name][0]}
    assert changed == {"redis_password", "redis_url"}
    assert after["grafana_password"] == before["grafana_password"]


@pytest.mark.parametrize("line", ["SECRETS_DIR=../mine", 'SECRETS_DIR="../mine"  # ours'])
def test_a_relative_directory_counts_from_deploy_as_for_compose(deploy: Path, line: str) -> None:
    (deploy / ".env").write_text(f"MODEL=x\n{line}\n")
    assert run(deploy).returncode == 0
    assert {path.name for path in (deploy.parent / "mine").iterdir()} == set(NAMES)
    assert run(deploy, SECRETS_DIR="other").returncode == 0, "the environment goes first"
    assert {path.name for path in (deploy / "other").iterdir()} == set(NAMES)
    assert not (deploy / "secrets").exists()


def test_a_directory_that_others_may_enter_is_refused_and_left_as_it_is(deploy: Path) -> None:
    shared = deploy / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    done = run(deploy, SECRETS_DIR="shared")
    assert done.returncode == 1
    assert f"other users may enter {shared}" in done.stderr
    assert (mode(shared), list(shared.iterdir())) == (0o755, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"redis_password": ""}, "redis_password is empty"),
        ({"redis_url": "redis://:old@store:6379/0"}, "redis_url has not the password"),
        ({"redis_password": "a/b"}, "write redis_url yourself"),
    ],
)
def test_secrets_that_cannot_go_together_are_told_and_not_replaced(
    deploy: Path, given: dict[str, str], said: str
) -> None:
    secrets = deploy / "secrets"
    secrets.mkdir(mode=0o700)
    for name, value in given.items():
        (secrets / name).write_text(value)
    done = run(deploy)
    assert done.returncode == 1
    assert said in done.stderr
    assert {name: (secrets / name).read_text() for name in given} == given


def test_passwords_of_your_own_are_taken(deploy: Path) -> None:
    secrets = deploy / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "redis_password").write_text("mine-1")
    assert run(deploy).returncode == 0
    assert (secrets / "redis_url").read_text() == "redis://:mine-1@store:6379/0\n"
    (secrets / "redis_password").chmod(0o600)
    (secrets / "redis_password").write_text("a/b")
    (secrets / "redis_url").unlink()
    (secrets / "redis_url").write_text("redis://:a%2Fb@store:6379/0")
    assert run(deploy).returncode == 0, "a URL that somebody encoded"

"""deploy/system.py: what is missing, and what would install it."""

from __future__ import annotations

import pytest

from deploy import system


def test_nothing_is_missing_where_every_program_is_found() -> None:
    assert system.missing(lambda program: f"/bin/{program}") == []


def test_a_package_is_missing_if_one_of_its_programs_is() -> None:
    found = system.missing(lambda program: None if program == "promtool" else program)
    assert [tool.package for tool in found] == ["prometheus"]


def test_the_lists_are_fetched_before_the_packages() -> None:
    update, install = system.commands(system.TOOLS)
    assert update[-1] == "update"
    assert install[-3:] == ["prometheus", "chromium", "faketime"]


@pytest.mark.parametrize(
    ("apt", "user", "reason"), [(None, 0, "there is no apt-get"), ("apt-get", 1000, "not root")]
)
def test_without_rights_or_package_manager_it_says_why(
    apt: str | None, user: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: apt)
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert reason in (system.install(system.TOOLS) or "")
    monkeypatch.setattr(system, "missing", lambda: [*system.TOOLS])
    assert system.main([]) == 0

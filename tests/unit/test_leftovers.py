from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.leftovers import (
    aside,
    clear,
    restore,
    temporary_directory,
    unfinished,
    work_directory,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(NAMES)
def test_a_leftover_belongs_to_the_target_it_is_named_after(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    place = tmp_path_factory.mktemp("place")
    paths = {work_directory(place / name), temporary_directory(place / name)}
    for path in paths:
        path.mkdir()
    assert set(unfinished(place)) == {(path, name) for path in paths}


def test_what_others_left_stays(tmp_path: Path) -> None:
    other = temporary_directory(tmp_path / "model.2")
    other.mkdir()
    clear(tmp_path / "model")
    assert list(tmp_path.iterdir()) == [other]


def test_a_model_comes_back_whose_replacement_was_killed(tmp_path: Path) -> None:
    target = tmp_path / "model"
    before = aside(target)
    before.mkdir()
    (before / "whole").touch()
    aside(target).mkdir()  # of an earlier one, half removed
    temporary_directory(target).mkdir()

    restore(target, "whole")
    clear(target)

    assert list(tmp_path.iterdir()) == [target]
    assert (target / "whole").exists()


def test_what_has_taken_its_place_stays(tmp_path: Path) -> None:
    target, before = tmp_path / "model", aside(tmp_path / "model")
    for path in (target, before):
        path.mkdir()
        (path / "whole").touch()
    (target / "new").touch()

    restore(target, "whole")
    clear(target)

    assert list(tmp_path.iterdir()) == [target]
    assert (target / "new").exists()

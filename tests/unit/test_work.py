from __future__ import annotations

from pathlib import Path

from compressor.work import Work


def test_pieces_are_counted_up_to_the_first_that_is_missing(tmp_path: Path) -> None:
    work = Work.beside(tmp_path / "out", {"recipe": 1})
    for index in (0, 1, 3):
        work.save_json(f"layer-{index}.json", index)
    names = [f"layer-{index}.json" for index in range(4)]
    assert work.finished(names) == 2
    assert work.finished(names[:1]) == 1
    assert work.finished([]) == 0


def test_parents_that_were_made_for_it_go_with_it_where_they_are_empty(tmp_path: Path) -> None:
    kept, target = tmp_path / "kept", tmp_path / "kept" / "new" / "place" / "out"
    kept.mkdir()
    Work.beside(target, {"recipe": 1}).remove()
    assert list(tmp_path.rglob("*")) == [kept]

    work = Work.beside(target, {"recipe": 1})
    target.mkdir()
    work.remove()
    assert target.exists()
    assert not work.directory.exists()

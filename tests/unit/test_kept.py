"""What is kept in files comes back bit for bit, and takes no memory meanwhile."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressor.kept import KeptArguments, KeptBatches
from compressor.work import Work


def test_batches_come_back_as_they_were_and_do_not_stay_in_memory(tmp_path: Path) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    def made() -> torch.Tensor:
        pixels = torch.full((2, 3), float(len(seen)))
        seen.append(weakref.ref(pixels))
        return pixels

    kept = KeptBatches(Work(tmp_path / "inputs", {}), ({"pixel_values": made()} for _ in range(3)))
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3
    assert len(kept) == 3
    assert [float(batch["pixel_values"][0, 0]) for batch in kept] == [0, 1, 2]
    assert torch.equal(kept[-1]["pixel_values"], torch.full((2, 3), 2.0))
    with pytest.raises(IndexError):
        kept[3]


@given(tables=st.lists(st.integers(0, 2), min_size=1, max_size=5), block=st.integers(0, 7))
def test_a_block_gets_its_own_arguments_and_those_behind_the_last_get_the_last_s(
    tables: list[int], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Layers with window attention have other masks than those with full attention."""
    masks = [torch.arange(6.0).reshape(2, 3) + i for i in range(3)]
    rotary = (torch.ones(2), torch.zeros(2))
    kept = KeptArguments(tmp_path_factory.mktemp("kept"))
    kept.append([{"attention_mask": None, "position_embeddings": rotary}])
    kept.append(
        [{"attention_mask": masks[i], "position_embeddings": rotary, "n": 4} for i in tables]
    )
    found = kept.of(1, block)
    assert torch.equal(found["attention_mask"], masks[tables[min(block, len(tables) - 1)]])
    assert [part.tolist() for part in found["position_embeddings"]] == [[1, 1], [0, 0]]
    assert found["n"] == 4
    assert kept.of(0, block)["attention_mask"] is None


def test_views_of_one_table_are_kept_as_their_own_values(tmp_path: Path) -> None:
    table = torch.arange(12.0).reshape(3, 4)
    kept = KeptArguments(tmp_path / "kept")
    kept.append([{"a": table[:, 1:3], "b": table.T, "c": table[:1].expand(5, 4)}])
    found = kept.of(0, 0)
    assert torch.equal(found["a"], table[:, 1:3])
    assert torch.equal(found["b"], table.T)
    assert torch.equal(found["c"], table[:1].expand(5, 4))

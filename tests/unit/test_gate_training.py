"""What the training of gates must do: close idle heads, follow its terms, end at its budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoProcessor

from compressor import gates, load
from compressor.checkpoint import Tower, read_config
from compressor.families import TowerSpec, family_of
from compressor.families.base import Attention
from compressor.gates import GatedLayer, alignment, open_probability, redundancy_of, train_gates
from compressor.inputs import mixture, prepare
from compressor.recipe import Training
from compressor.scoring import HeadScore, LayerScores
from compressor.training import Batch, Batches
from tests.support.random_vlm import Kind, write_random_vlm

GROUPS, HEAD_DIM, LAYERS, WORDS = 4, 2, 3, 16
TINY = TowerSpec(
    name="language", layers="model.layers", used_layers=LAYERS, heads=GROUPS, kv_heads=GROUPS,
    head_dim=HEAD_DIM, width=GROUPS * HEAD_DIM, ffn_width=8, attention=Attention("q", "k", "v", "o"),
    ffn_norm="norm", ffn_inputs=("up",), ffn_output="down",
)  # fmt: skip
UNREDUNDANT = torch.zeros(GROUPS)
# Each group's energy is its own and the same in every direction.
EVEN = torch.eye(GROUPS)[:, :, None].expand(GROUPS, GROUPS, HEAD_DIM * GROUPS)


class OneBatch(Batches):
    """The same questions at every step."""

    def __init__(self, batch: Batch) -> None:
        self._only = batch

    def at(self, step: int) -> Batch:
        return self._only


class TinyBlock(nn.Module):
    def __init__(self, std: float) -> None:
        super().__init__()
        self.o = nn.Linear(TINY.width, TINY.width, bias=False)
        nn.init.normal_(self.o.weight, std=std)


class TinyDecoder(nn.Module):
    """Its blocks are output matrices alone: a step takes milliseconds."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, TINY.width)
        self.layers = nn.ModuleList(TinyBlock(std) for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        hidden = self.embed(input_ids)
        for block in self.layers:
            assert isinstance(block, TinyBlock)
            hidden = hidden + block.o(hidden)
        return SimpleNamespace(last_hidden_state=hidden)


class TinyModel(nn.Module):
    """With `std` 0 no head writes anything, so that the task has no say in the gates."""

    def __init__(self, std: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = TinyDecoder(std)
        self.lm_head = nn.Linear(TINY.width, WORDS, bias=False)


def tiny_layers(
    redundancy: Tensor = UNREDUNDANT, energies: Tensor = EVEN, costs: Sequence[float] = (1, 1, 1)
) -> list[GatedLayer]:
    return [GatedLayer(TINY, i, redundancy, energies, cost) for i, cost in enumerate(costs)]


def trained(
    layers: list[GatedLayer], share: float, *, std: float = 0.0, steps: int = 200, **terms: float
) -> list[Tensor]:
    """`ln a` of gates on the tiny model; `share` of the layers' cost is the budget."""
    ids = torch.randint(0, WORDS, (2, 6), generator=torch.Generator().manual_seed(1))
    answers = torch.ones(2, 5, dtype=torch.bool)
    batches = OneBatch(Batch({"input_ids": ids}, answers, torch.ones(2, 6, dtype=torch.bool)))
    settings = Training(steps=steps, **{"beta": 0.0, "gamma": 0.0, **terms})
    return train_gates(
        TinyModel(std), layers, batches, settings, share * whole(layers),
        seed=0, advance=lambda done: None,
    )  # fmt: skip


def whole(layers: Sequence[GatedLayer]) -> float:
    return sum(layer.cost * len(layer.redundancy) for layer in layers)


def expected_share(layers: Sequence[GatedLayer], alphas: Sequence[Tensor]) -> float:
    """The gates' expected cost over the whole."""
    costs = [float(open_probability(a).sum()) * x.cost for a, x in zip(alphas, layers, strict=True)]
    return sum(costs) / whole(layers)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[float]]:
    """The mean probability of being open at every step so far, of tiny layers that cost the same."""
    seen: list[float] = []

    def listen(log_alpha: Tensor) -> Tensor:
        found = open_probability(log_alpha)
        seen.append(float(found.detach().mean()))
        return found

    monkeypatch.setattr(gates, "open_probability", listen)
    return lambda: [sum(seen[i : i + LAYERS]) / LAYERS for i in range(0, len(seen), LAYERS)]


@pytest.mark.parametrize(("share", "std", "steps"), [(0.3, 0.0, 200), (0.7, 0.5, 300)])
def test_the_expected_cost_comes_down_to_the_budget(share: float, std: float, steps: int) -> None:
    layers = tiny_layers(costs=(1, 2, 4))  # what a gate costs depends on its layer
    assert expected_share(layers, trained(layers, 1.0, std=std, steps=1)) > 0.95
    alphas = trained(layers, share, std=std, steps=steps)
    assert expected_share(layers, alphas) == pytest.approx(share, abs=0.04)


def test_an_overshoot_is_taken_back(followed: Callable[[], list[float]]) -> None:
    layers = tiny_layers()
    alphas = trained(layers, 0.5)
    path = followed()
    lowest = path.index(min(path))
    assert path[lowest] < 0.4, "the case: the multipliers have wound up while the target fell"
    assert max(path[lowest:]) > 0.5
    assert expected_share(layers, alphas) == pytest.approx(0.5, abs=0.04)


def test_gates_that_something_else_closes_are_opened_up_to_the_budget() -> None:
    layers = tiny_layers(redundancy=torch.ones(GROUPS))
    alphas = trained(layers, 0.75, beta=3.0)
    assert expected_share(layers, alphas) == pytest.approx(0.75, abs=0.04)


def test_the_target_falls_over_the_first_half(followed: Callable[[], list[float]]) -> None:
    """Fell it at once, gates would close before the task has said which are of use."""
    trained(tiny_layers(), 0.5)
    assert min(followed()[:40]) > 0.95


def test_the_advance_is_told_and_the_weights_stay() -> None:
    model, told = TinyModel(0.5), list[float]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.zeros(1, 4, dtype=torch.long)
    used = torch.ones(1, 4, dtype=torch.bool)
    batches = OneBatch(Batch({"input_ids": ids}, used[:, 1:], used))
    layers = tiny_layers()
    train_gates(model, layers, batches, Training(steps=4), 6.0, seed=0, advance=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(block.o._forward_pre_hooks for block in model.model.layers)  # type: ignore[union-attr]


def test_redundancy_closes_gates() -> None:
    redundancy = torch.tensor([0.0, 0.9, 0.0, 0.9])
    for alpha in trained(tiny_layers(redundancy), 0.5, beta=0.1):
        assert float(alpha[[1, 3]].max()) < float(alpha[[0, 2]].min()) - 0.5


def test_a_head_that_writes_few_directions_is_redundant() -> None:
    ranks = (4.0, 1.0, 2.0, 0.0)
    heads = tuple(HeadScore(ks=0.0, effective_rank=r, score=0.0) for r in ranks)
    scores = LayerScores(heads, (0, 1, 2, 3), (0.0,) * 4, {}, (), ())
    assert redundancy_of(scores).tolist() == [0.0, 0.75, 0.5, 1.0]


def test_alignment_keeps_open_what_writes_most() -> None:
    energies = torch.diag(torch.tensor([0.0, 8.0, 0.1, 4.0]))[:, :, None]
    for alpha in trained(tiny_layers(energies=energies), 0.5, gamma=0.1):
        assert float(alpha[[0, 2]].max()) < float(alpha[[1, 3]].min()) - 0.5


def test_alignment_falls_as_any_gate_opens_and_the_more_the_more_it_writes() -> None:
    energies = torch.diag(torch.tensor([1.0, 8.0, 4.0, 2.0]))[:, :, None]
    z = torch.full((GROUPS,), 0.5, requires_grad=True)
    alignment(energies, z).backward()
    assert z.grad is not None
    # K = 1 - sum z_i^2 E_ii / sum E_ii, so that dK/dz_i = -2 z_i E_ii / sum E.
    assert z.grad.tolist() == pytest.approx([-1 / 15, -8 / 15, -4 / 15, -2 / 15])


def test_alignment_opens_a_gate_less_where_another_writes_the_same_against_it() -> None:
    """Two groups that cancel each other: closing one alone adds energy, which is a distance too."""
    energies = torch.tensor([[4.0, -3.9], [-3.9, 4.0]])[:, :, None]
    assert float(alignment(energies, torch.tensor([1.0, 0.0]))) > 1
    assert float(alignment(energies, torch.tensor([1.0, 1.0]))) == 0


def random_model(directory: Path, kind: Kind) -> tuple[Any, dict[Tower, TowerSpec]]:
    write_random_vlm(directory, kind, kv_heads=4 if kind == "clip-mistral" else None)
    config = read_config(directory)
    specs = {spec.name: spec for spec in family_of(config).towers(config)}
    return load(directory, dtype=torch.float32), specs


def output_of(spec: TowerSpec, block: nn.Module) -> nn.Linear:
    assert spec.attention is not None
    found = block.get_submodule(spec.attention.o)
    assert isinstance(found, nn.Linear)
    return found


def scale_group(spec: TowerSpec, block: nn.Module, group: int, factor: float) -> None:
    rows = spec.group * spec.head_dim
    output_of(spec, block).weight.data[:, group * rows : (group + 1) * rows] *= factor


def own_words(model: Any, *, length: int = 12) -> OneBatch:
    """What the model says itself: with all heads no answer is likelier, so none may go for nothing."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 300, (4, 4), generator=generator)
    with torch.no_grad():
        for _ in range(length):
            said = model(input_ids=ids, logits_to_keep=1).logits[:, -1].argmax(-1)
            ids = torch.cat([ids, said[:, None]], 1)
    used = torch.ones_like(ids, dtype=torch.bool)
    answers = used[:, 1:].clone()
    answers[:, :3] = False
    return OneBatch(Batch({"input_ids": ids}, answers, used))


def test_the_gate_of_a_head_that_writes_nothing_closes_first(tmp_path: Path) -> None:
    """By the task's loss alone: without redundancy and alignment only it can tell heads apart."""
    model, specs = random_model(tmp_path / "model", "clip-mistral")
    spec = specs["language"]
    idle = (
        1,
        0,
        3,
        2,
    )  # of the first layers; of the last ones of a random model more are of no use
    for group, block in zip(idle, spec.blocks(model), strict=False):
        scale_group(spec, block, group, 0.0)
    layers = [GatedLayer(spec, i, UNREDUNDANT, EVEN, 1.0) for i in range(len(idle))]

    alphas = train_gates(
        model, layers, own_words(model), Training(steps=36, beta=0.0, gamma=0.0), 8.0,
        seed=0, advance=lambda done: None,
    )  # fmt: skip

    for group, alpha in zip(idle, alphas, strict=True):
        others = alpha[[g for g in range(GROUPS) if g != group]]
        assert float(alpha[group]) < float(others.min()) - 0.5


@pytest.mark.parametrize("kind", ["clip-mistral", "qwen2.5-vl"])
def test_an_open_gate_changes_nothing_and_a_shut_one_takes_its_heads_part(
    kind: Kind, tmp_path: Path
) -> None:
    """In both towers, with grouped queries and with q, k and v in one matrix."""
    model, specs = random_model(tmp_path / "model", kind)
    batch = prepare(
        AutoProcessor.from_pretrained(tmp_path / "model"), mixture(["easy-vqa"], samples=1, seed=0)
    )[0]

    def logits() -> Tensor:
        with torch.no_grad():
            found = model(**batch).logits
        assert isinstance(found, Tensor)
        return found

    plain = logits()
    for name, index in (("vision", 1), ("language", 2)):
        spec = specs[name]  # type: ignore[index]
        layer = GatedLayer(spec, index, torch.zeros(spec.kv_heads), torch.zeros(0), 1.0)
        z = torch.ones(spec.kv_heads)
        with gates._gated(model, [layer], [z]):
            assert torch.equal(logits(), plain)
        for factor in (0.0, 0.5):
            z[1] = factor
            with gates._gated(model, [layer], [z]):
                gated = logits()
            block = spec.blocks(model)[index]
            kept = output_of(spec, block).weight.data.clone()
            scale_group(spec, block, 1, factor)
            assert torch.equal(gated, logits())  # by these factors nothing is rounded
            assert not torch.allclose(gated, plain, atol=1e-3)
            output_of(spec, block).weight.data.copy_(kept)
        assert torch.equal(logits(), plain), "no gate stays behind"

from __future__ import annotations

from service.gateway.lineage import Lineage
from tests.support.registry import model, snapshot


def test_every_model_says_where_it_comes_from_and_whether_it_is_served() -> None:
    known = snapshot("big")
    small = model("small", variant="compressed", base="big", state="retired")
    known = known.model_copy(update={"models": {**known.models, "small": small}})
    (family,) = Lineage(lambda: known).collect()
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"model": "big", "variant": "original", "base": "", "state": "active"}, 1),
        ({"model": "small", "variant": "compressed", "base": "big", "state": "retired"}, 1),
    ]

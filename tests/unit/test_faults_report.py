from __future__ import annotations

from tests.faults.figures import Figures, Machine
from tests.faults.report import table

MACHINE = Machine(cores=2, system="Linux x86_64", load_average=7.0, when="2026-01-01 00:00 UTC")
FAULT = Figures("kill -9", 1.25, 10, 0, 0.5, 5, 1, remark="seen in 1 s", machine=MACHINE)


def test_every_fault_is_a_row_and_the_machine_is_named() -> None:
    text = table([FAULT, Figures("other", lost=0, machine=MACHINE)])
    assert "| kill -9 (seen in 1 s) | 1.2 s | 10 | 0 | 0.5 s | 5 | 1 |" in text
    assert "| other |  |  | 0 |  |  |  |" in text
    assert "2 core(s) (Linux x86_64), with a load average of 7 to 7" in text

"""A replica that declares its part of a device takes no more of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from services.nn.device import bound_device_memory

GIB = 2**30


class Devices:
    """Stands in for torch.cuda: devices of these sizes, and what was set for them."""

    def __init__(self, *totals: int) -> None:
        self.totals = totals
        self.fractions: dict[int, float] = {}

    def is_available(self) -> bool:
        return bool(self.totals)

    def device_count(self) -> int:
        return len(self.totals)

    def get_device_properties(self, device: int) -> SimpleNamespace:
        return SimpleNamespace(total_memory=self.totals[device])

    def set_per_process_memory_fraction(self, fraction: float, device: int) -> None:
        assert 0 < fraction <= 1, "torch refuses it"
        self.fractions[device] = fraction


@pytest.mark.parametrize(
    ("totals", "fractions"),
    [((24 * GIB,), {0: 0.25}), ((24 * GIB, 12 * GIB, 3 * GIB), {0: 0.25, 1: 0.5, 2: 1.0}), ((), {})],
)
def test_six_gigabytes_are_a_part_of_each_device_by_its_real_size(
    monkeypatch: pytest.MonkeyPatch, totals: tuple[int, ...], fractions: dict[int, float]
) -> None:
    devices = Devices(*totals)
    monkeypatch.setattr(torch, "cuda", devices)
    bound_device_memory(6 * GIB)
    assert devices.fractions == fractions

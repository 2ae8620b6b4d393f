"""A replica that declares its part of a device takes no more of it, and tells what it takes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from services.nn.device import bound_device_memory
from services.nn.device_memory import device_memory
from shared.reports import DeviceMemory

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


class LiveDevices(Devices):
    """Devices of which a process holds these bytes, and may take half."""

    def __init__(self, *totals: int, held: tuple[int, ...], is_set_up: bool = True) -> None:
        super().__init__(*totals)
        self.held = held
        self.is_set_up = is_set_up

    def is_initialized(self) -> bool:
        return self.is_set_up

    def memory_allocated(self, device: int) -> int:
        return self.held[device]

    def get_per_process_memory_fraction(self, device: int) -> float:
        return 0.5


def test_what_tensors_take_is_told_beside_what_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", LiveDevices(24 * GIB, 12 * GIB, held=(GIB, 0)))
    assert device_memory() == (DeviceMemory(GIB, 12 * GIB), DeviceMemory(0, 6 * GIB))


def test_a_replica_without_a_model_on_a_device_sets_none_up_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", LiveDevices(24 * GIB, held=(0,), is_set_up=False))
    assert device_memory() == ()
    monkeypatch.delitem(sys.modules, "torch")
    assert device_memory() == ()

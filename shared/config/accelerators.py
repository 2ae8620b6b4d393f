"""Owns how much memory a device has, by the names that Ray gives device types."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MIB = 2**20
GRANULES = 10_000  # Ray counts a device in ten-thousandths

# MiB that a process sees as the device's total, which is less than the maker's figure: error correction takes its part.
# A name that stands for cards of two sizes has the smaller one's. deploy/chart/castalia/templates/_serve.tpl holds the
# same table, which a test compares.
_TOTAL_MIB = {
    "A10G": 22_400,
    "A100": 40_000,
    "A100-40G": 40_000,
    "A100-80G": 80_000,
    "B200": 182_000,
    "H20": 97_000,
    "H100": 80_000,
    "H200": 143_000,
    "L4": 22_400,
    "L40S": 45_400,
    "P4": 7_500,
    "RTX-PRO-6000": 97_000,
    "T4": 14_900,
    "V100": 16_000,
}
DEVICE_MEMORY: Mapping[str, int] = MappingProxyType({name: mib * MIB for name, mib in _TOTAL_MIB.items()})


def device_share(gpu_memory: int, accelerator: str) -> float:
    """The part of a device that so many bytes are, rounded up to what Ray can count.

    Raises ValueError if the device's memory is not known, or smaller.
    """
    total = DEVICE_MEMORY.get(accelerator)
    if total is None:
        known = ", ".join(sorted(DEVICE_MEMORY))
        raise ValueError(
            f"the memory of accelerator {accelerator!r} is not known: use num_gpus, or one of {known} with gpu_memory"
        )
    if gpu_memory > total:
        raise ValueError(
            f"gpu_memory ({gpu_memory // MIB} MiB) is over what accelerator {accelerator} has ({total // MIB} MiB)"
        )
    return -(-gpu_memory * GRANULES // total) / GRANULES

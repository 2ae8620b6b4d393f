"""Owns how much memory this process has of its devices. Asks torch only where something has set a device up."""

from __future__ import annotations

import sys

from shared.reports import DeviceMemory


def device_memory() -> tuple[DeviceMemory, ...]:
    """For each device that torch sees, once a model is on one; none before. Safe from any thread, and never waits."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return ()
    return tuple(
        DeviceMemory(
            allocated=cuda.memory_allocated(device),
            limit=int(cuda.get_device_properties(device).total_memory * cuda.get_per_process_memory_fraction(device)),
        )
        for device in range(cuda.device_count())
    )

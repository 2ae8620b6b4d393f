"""Owns the border between torch's errors and the engine's: what means that a device can no longer be trusted."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

from services.engine.errors import DeviceFailure

# Plain RuntimeErrors that torch raises for a failing device or an exhausted allocator; the rest are faults of a batch.
_SIGNS = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "out of memory", "can't allocate memory", "NCCL error")


@contextmanager
def device_errors() -> Generator[None]:
    """Turn CUDA and out-of-memory errors into DeviceFailure, which the engine never retries.

    Raises DeviceFailure from the cause. Every other error passes unchanged.
    """
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError, MemoryError) as error:
        raise DeviceFailure(f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise DeviceFailure(str(error)) from error
        raise


def bound_device_memory(limit: int) -> None:
    """Have torch refuse this process more than so many bytes of each device that it sees, where it sees any.

    What the driver itself takes for a process (some hundred megabytes) is not counted.
    """
    if not torch.cuda.is_available():
        return
    for device in range(torch.cuda.device_count()):
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)

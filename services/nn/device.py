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

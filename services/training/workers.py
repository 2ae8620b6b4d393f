"""Owns what the workers of a run do together, through `accelerate`: shares of a batch, sums, shared decisions.

A step's batch is cut into `shards` of equal size, each with its own draws. A worker takes shards / workers of them, one
after another, and gradients are averaged over all. So the shards decide what is computed, and the number of workers
only who computes it: any number that divides the shards gives the same run, within rounding. Modules whose forward in
training changes their buffers are the exception: spectral norm iterates once a forward, so a worker with fewer shards
iterates less often in a step, and the run is only nearly the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor


class Workers:
    """This process among its equals; alone, every operation is free."""

    def __init__(self, accelerator: Accelerator, shards: int) -> None:
        self._accelerator = accelerator
        self.count, self.rank = accelerator.num_processes, accelerator.process_index
        if shards % self.count:
            raise ValueError(f"{shards} shards cannot be shared by {self.count} workers")
        self.shards = range(self.rank, shards, self.count)
        self._of = shards

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, indices: Tensor, shard: int) -> Tensor:
        """(B,) -> (B / shards,): one shard's part of a batch."""
        if len(indices) % self._of:
            raise ValueError(f"a batch of {len(indices)} cannot be cut into {self._of} shards")
        return indices.chunk(self._of)[shard]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its mean over the workers, in place, in one message."""
        if self.count == 1:
            return
        listed = list(tensors)
        if not listed:
            return
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in listed])
        mean = self._accelerator.reduce(flat, reduction="mean")
        assert isinstance(mean, Tensor)
        for tensor, part in zip(listed, mean.split([tensor.numel() for tensor in listed]), strict=True):
            tensor.detach().copy_(part.view(tensor.shape))

    def means(self, figures: Sequence[float]) -> list[float]:
        """Figures of this worker -> their means over all."""
        if self.count == 1:
            return list(figures)
        values = torch.tensor(figures, dtype=torch.float64, device=self._accelerator.device)  # NCCL takes no other
        mean = self._accelerator.reduce(values, reduction="mean")
        assert isinstance(mean, Tensor)
        return mean.tolist()

    def any(self, wish: bool) -> bool:
        """Whether any worker wants it: all of them then do it in the same step."""
        return self.means([float(wish)])[0] > 0

"""Owns how well a score tells two sets of things apart. Never sees what they are."""

from __future__ import annotations

import torch
from torch import Tensor


def auroc(above: Tensor, below: Tensor) -> float:
    """The chance that one of `above` (N,) scores over one of `below` (M,), a tie counting half; 0.5 tells nothing.

    The area under the receiver operating characteristic (Mann & Whitney 1947).
    """
    order = below.double().sort().values
    scores = above.double().contiguous()
    under = torch.searchsorted(order, scores) + torch.searchsorted(order, scores, right=True)
    return (under.double().mean() / (2 * len(order))).item()

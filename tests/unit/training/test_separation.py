"""How well a score tells two sets apart."""

from __future__ import annotations

import pytest
import torch

from services.training.separation import auroc


def test_auroc_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    assert auroc(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])) == 1.0
    assert auroc(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])) == 0.0
    assert auroc(torch.tensor([2.0]), torch.tensor([1.0, 2.0])) == 0.75
    draws = torch.Generator().manual_seed(0)
    above, below = torch.randn(40, generator=draws) + 0.5, torch.randn(30, generator=draws)
    assert auroc(above, below) == pytest.approx((above[:, None] > below).float().mean().item())

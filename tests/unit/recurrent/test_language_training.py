"""Training falls to what the documents hold, and padding is not learnt."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from services.families.recurrent.corpora import Documents
from services.families.recurrent.language_training import LanguageTraining, prepare_weights
from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from tests.unit.recurrent.tiny import CELLS

DOCUMENTS = [[0, 2, 3, 4, 5, 1], [0, 6, 1], [0, 2, 3, 1]]


def training(cell: str) -> LanguageTraining:
    config = RecurrentConfig.model_validate({"cell": cell, "vocabulary": 8, "embedding": 6, "hidden": 16})
    return LanguageTraining(
        config,
        Documents.of(DOCUMENTS, longest=8),
        [torch.tensor(document) for document in DOCUMENTS],
        seed=0,
        sheet=lambda net: Image.new("L", (8, 8)),
        learning_rate=0.02,
    )


@pytest.mark.parametrize("cell", CELLS)
def test_documents_are_learnt_to_their_entropy(cell: str) -> None:
    """Three equally likely documents: log 3 nats for which it is, shared by its 10 tokens, and no more."""
    run, draws = training(cell), torch.Generator().manual_seed(0)
    net = run.modules["net"]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.03, weight_decay=0.0)
    before = run.validate(run.modules)["metric"]
    net.train()
    for _ in range(120):
        loss, _ = run.loss("tell", run.modules, run.batch(torch.tensor([0, 1, 2]), draws), draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    entropy = 3 * math.log(3) / 10
    assert entropy - 1e-3 <= run.validate(run.modules)["metric"] < entropy + 0.02 < before


def test_what_fills_a_batch_up_adds_nothing_to_the_loss() -> None:
    run, draws = training("gru"), torch.Generator()
    alone = [run.loss("tell", run.modules, run.batch(torch.tensor([i]), draws), draws)[0].item() for i in (0, 1)]
    both = run.loss("tell", run.modules, run.batch(torch.tensor([0, 1]), draws), draws)[0].item()
    assert both == pytest.approx((5 * alone[0] + 2 * alone[1]) / 7, rel=1e-5)


def test_weights_begin_orthogonal_with_open_forget_gates() -> None:
    net = RecurrentLM(RecurrentConfig(cell="lstm", vocabulary=4, embedding=3, hidden=5))
    prepare_weights(net)
    for gate in net.cells.weight_hh_l0.split(5):
        assert torch.allclose(gate @ gate.T, torch.eye(5), atol=1e-5)
    assert net.cells.bias_ih_l0.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10


def test_the_same_seed_gives_the_same_first_weights() -> None:
    first, again = training("lstm").modules["net"], training("lstm").modules["net"]
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)

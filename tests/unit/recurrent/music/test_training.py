"""What training sees of tunes, the baselines and judges that measure them, and that a model learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.families.recurrent.corpora import NOTHING
from services.families.recurrent.music.corpus import TuneCorpus, near_keys, tune_lexemes, varied
from services.families.recurrent.music.data import RealTune, TuneSplit, split_tunes, write_split
from services.families.recurrent.music.drawing import Musician
from services.families.recurrent.music.evaluation import asked_terms, sample_figure
from services.families.recurrent.music.judge import GenreJudge
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.likelihood import net_bits, ngram_bits
from services.families.recurrent.music.novelty import KnownMelodies, returning_bars
from services.families.recurrent.music.recipe import DancesGru
from services.families.recurrent.music.repertoire import read_repertoire
from services.families.recurrent.music.scores import EIGHTH, Note, Tune
from tests.unit.recurrent.music.test_data import tune


def some_tunes(count: int = 28, bars: int = 16) -> list[RealTune]:
    """Reels of eighths, strathspeys of dotted notes, jigs that turn every three eighths; no two are kin."""
    made: list[RealTune] = []
    for i in range(count):
        base = tune(i % 7, (i // 7 * 2 + 1) % 7, (i * 3) % 5, bars=bars)
        if i % 4 == 3:
            dotted = tuple(
                tuple(note._replace(ticks=36 if j % 2 == 0 else 12) for j, note in enumerate(bar)) for bar in base.bars
            )
            base = RealTune(replace(base.terms, genre="strathspey"), dotted, "s")
        made.append(base)
    return made


def test_a_tune_comes_whole_as_a_part_or_doubled_and_in_keys_within_reach() -> None:
    base, draws = tune(0, 3, 1, 5, 2), torch.Generator().manual_seed(0)
    seen = [varied(base, draws) for _ in range(300)]
    counts = {bars: sum(len(each.bars) == bars for each in seen) for bars in (8, 16, 32)}
    assert sum(counts.values()) == 300
    assert 25 < counts[8] < 70
    assert 10 < counts[32] < 45
    doubled = next(each for each in seen if len(each.bars) == 32)
    assert doubled.bars == (*base.bars[:8] * 2, *base.bars[8:] * 2)
    assert {each.bars for each in seen if len(each.bars) == 8} == {base.bars[:8], base.bars[8:]}
    keys = {str(each.terms.key) for each in seen}
    assert keys == {str(key) for key in near_keys(Key("G", "major"))} == {"D", "Eb", "E", "F", "G", "A"}
    assert 60 < sum(each.terms.key.tonic != "G" for each in seen) < 110


def test_a_rare_genre_is_shown_as_often_as_others_and_rows_are_filled_up() -> None:
    tunes = some_tunes()
    lexemes = tune_lexemes(tunes)
    corpus = TuneCorpus(tunes, lexemes)
    assert corpus.examples == 21 * 6 + 7 * 17
    batch = corpus.batch(torch.arange(12), torch.Generator().manual_seed(0))
    assert batch.shape[1] <= 224
    for row in batch:
        length = int((row != NOTHING).sum())
        assert (row[length:] == NOTHING).all()
        names = [lexemes.names[i] for i in row[:length]]
        assert names[0] == "genre:reel" or names[-1] == "</s>"


def test_ngrams_tell_tunes_that_go_on_as_they_began_and_unigrams_do_not() -> None:
    tunes = some_tunes()
    bits = ngram_bits(tunes[:20], tunes[20:])
    assert len(bits) == 8
    assert bits[0] > 2.5
    assert bits[2] < 0.5 * bits[0]


def test_a_judge_tells_dotted_tunes_from_even_ones_and_counts_genres_alike() -> None:
    def melodies(tunes: list[RealTune]) -> tuple[list[list[Note]], list[str]]:
        return [[note for bar in t.bars for note in bar] for t in tunes], [t.terms.genre for t in tunes]

    judge = GenreJudge(*melodies(some_tunes(20)), trees=20)
    heard, genres = melodies(some_tunes()[20:])
    assert judge.tell(heard) == genres
    assert judge.right(heard, ["reel"] * 8) == 0.75
    assert judge.right(heard, ["reel"] * 7 + ["strathspey"]) == pytest.approx((6 / 7 + 1) / 2)


def test_the_longest_shared_run_counts_degrees_and_lengths() -> None:
    a, b = [Note(i % 5, 0, EIGHTH) for i in range(20)], [Note(6, 0, EIGHTH)] * 5
    known = KnownMelodies([a, b])
    assert known.longest_run(a) == 20
    assert known.longest_run([Note(9, 0, EIGHTH), *a[3:10], Note(9, 0, EIGHTH)]) == 7
    assert known.longest_run([note._replace(ticks=48) for note in a]) == 0
    assert known.longest_run([*a[-2:], *b[:2]]) == 2, "a run must not go from one tune into the next"
    assert returning_bars([(Note(i % 3, 0, 192),) for i in range(4)]) == 0.25


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuneSplit, list[float]]:
    """A small model after some steps, exported, and what it lost on the way."""
    data, weights = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("weights")
    split = split_tunes(some_tunes(bars=4))
    write_split(data, split)
    recipe = DancesGru()
    recipe.embedding, recipe.hidden, recipe.layers, recipe.dropout = 16, 48, 1, 0.0
    training = recipe.build(data, 0)
    (phase,) = training.phases
    optimizer = torch.optim.AdamW(training.modules["net"].parameters(), lr=1e-2)
    losses: list[float] = []
    for step in range(25):
        draws = torch.Generator().manual_seed(step)
        batch = training.batch(torch.randint(training.examples, (8,), generator=draws), draws)
        loss, _ = training.loss(phase.name, training.modules, batch, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    recipe.export(training.modules, data, weights)
    return weights, split, losses


def test_a_model_learns_and_what_is_exported_draws_and_scores(
    learnt: tuple[Path, TuneSplit, list[float]],
) -> None:
    weights, split, losses = learnt
    assert losses[-1] < 0.75 * losses[0]
    musician, repertoire = Musician.load(weights), read_repertoire(weights)
    assert repertoire.genres == ("reel", "strathspey")
    asked = asked_terms(repertoire)
    assert [each.genre for each in asked] == ["reel"] * 50 + ["strathspey"] * 50
    first, second = musician.draw(asked[:1] * 2, 4)
    assert isinstance(first, Tune)
    assert first.adds_up
    assert first.bars != second.bars
    bits = net_bits(musician.net, musician.lexemes, split.held_out)
    assert 0 < bits < 8
    assert sample_figure(musician, weights).value == pytest.approx(bits)

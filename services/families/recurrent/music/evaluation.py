"""Owns the measuring of a published model of tunes: bits, bars, keys, genres by ear, what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.families.recurrent.drawing import draw_tokens
from services.families.recurrent.music.abc_writing import write_abc
from services.families.recurrent.music.checking import Checker
from services.families.recurrent.music.data import RealTune, TuneSplit
from services.families.recurrent.music.drawing import Musician
from services.families.recurrent.music.held_out import read_sample
from services.families.recurrent.music.judge import GenreJudge
from services.families.recurrent.music.lexicon import Terms, bar_lexeme, read_lexemes
from services.families.recurrent.music.likelihood import net_bits, ngram_bits
from services.families.recurrent.music.novelty import KnownMelodies, returning_bars
from services.families.recurrent.music.orders import most_lexemes
from services.families.recurrent.music.repertoire import KEYS, Repertoire, read_repertoire
from services.families.recurrent.music.scores import Bar, Note, Tune
from services.families.recurrent.music.sheets import roll_sheet
from services.nn.rng import derive_seed
from services.nn.text.params import SamplingOptions
from services.training.recipe import Evaluation, Figure
from shared.config.recurrent import RecurrentMusicModel

_OF_A_GENRE = 50
_BARS = 16
_FREE = 100  # drawn without the rules of bars
_SHOWN = 3  # of a genre, on the sheet
_RUN = 32  # notes: four bars of a reel
SAMPLING = SamplingOptions(
    temperature=RecurrentMusicModel.model_fields["temperature"].default,
    top_p=RecurrentMusicModel.model_fields["top_p"].default,
)


@dataclass(frozen=True, slots=True)
class _Genres:
    """Melodies with their genres."""

    melodies: list[list[Note]]
    genres: list[str]

    def without(self, genre: str) -> _Genres:
        pairs = [(m, g) for m, g in zip(self.melodies, self.genres, strict=True) if g != genre]
        return _Genres([m for m, _ in pairs], [g for _, g in pairs])


def evaluate_tunes(weights: Path, split: TuneSplit) -> Evaluation:
    """Every figure and sheet of a folder of weights; some minutes on a core."""
    musician, repertoire = Musician.load(weights), read_repertoire(weights)
    asked = asked_terms(repertoire)
    drawn = musician.draw(asked, _BARS, sampling=SAMPLING)
    figures = [
        *_bits_figures(musician, split),
        sample_figure(musician, weights),
        *_genre_figures(drawn, split),
        *_form_figures(musician, asked, drawn),
        *_tonic_figures(drawn, split),
        *_novelty_figures(drawn, split),
    ]
    shown = [tune for at in range(0, len(drawn), _OF_A_GENRE) for tune in drawn[at : at + _SHOWN]]
    first = [drawn[at] for at in range(0, len(drawn), _OF_A_GENRE)]
    return Evaluation(figures, {"tunes": roll_sheet(shown)}, _notes(first))


def asked_terms(repertoire: Repertoire) -> list[Terms]:
    """As many of each genre, in its usual metre, in keys as often as its training tunes have them."""
    return [
        Terms(genre, repertoire.usual_metre(genre), repertoire.drawn_key(genre, derive_seed(i, 0) / 2**63))
        for genre in repertoire.genres
        for i in range(_OF_A_GENRE)
    ]


def _bits_figures(musician: Musician, split: TuneSplit) -> list[Figure]:
    bits = net_bits(musician.net, musician.lexemes, split.held_out)
    ngrams = ngram_bits(split.train, split.held_out)
    order = min(range(len(ngrams)), key=lambda i: ngrams[i])
    meaning = (
        f"of {len(split.held_out)} held-out tunes, none nearly the same as one that was trained on; unigrams: "
        f"{ngrams[0]:.2f}"
    )
    name = f"the best n-grams of up to {len(ngrams)} lexemes, those of {order + 1}"
    return [Figure("bits_per_note", bits, "lower", 0.01, ngrams[order], name, meaning)]


def sample_figure(musician: Musician, weights: Path) -> Figure:
    """Of the sample that lies beside the weights."""
    sample = read_sample(weights)
    bits = net_bits(musician.net, musician.lexemes, sample)
    meaning = f"the same of the {len(sample)} tunes of the committed sample"
    return Figure("sample_bits_per_note", bits, "lower", tolerance=0.005, meaning=meaning)


def _genre_figures(drawn: Sequence[Tune], split: TuneSplit) -> list[Figure]:
    """By two judges: one has heard nothing that the model knows, the other has heard more."""
    made = _Genres([list(tune.notes) for tune in drawn], [tune.genre for tune in drawn])
    held_out, trained = _real(split.held_out), _real(split.train)
    parts = [each.without("jig") for each in (held_out, trained, made)]
    return [
        *_judged("genre", "held-out", held_out, trained, made),
        *_judged("genre_in_four_four", "held-out", *parts),
        *_judged("second_judge_genre", "training", trained, held_out, made),
        *_judged("second_judge_genre_in_four_four", "training", parts[1], parts[0], parts[2]),
    ]


def _judged(name: str, kind: str, learned: _Genres, others: _Genres, made: _Genres) -> list[Figure]:
    judge = GenreJudge(learned.melodies, learned.genres)
    genres = sorted(set(made.genres))
    chance, compared = 1 / len(genres), "chance, and the majority"
    told, of_real = (judge.right(each.melodies, each.genres) for each in (made, others))
    return [
        Figure(f"{name}_told", told, "higher", 0.05, chance, compared,
               f"share of {len(made.genres)} drawn tunes ({', '.join(genres)}) whose asked genre is told by a judge "
               f"that learned from {len(learned.genres)} {kind} tunes"),
        Figure(f"{name}_told_of_real_tunes", of_real, "higher", 0.05, chance, compared,
               f"the same judge on {len(others.genres)} real tunes that it has not heard; mean over genres"),
    ]  # fmt: skip


def _form_figures(musician: Musician, asked: Sequence[Terms], drawn: Sequence[Tune]) -> list[Figure]:
    checker = Checker()
    valid = [checker.is_valid(write_abc(tune), tune) for tune in drawn]
    right = [tune.adds_up and len(tune.bars) == _BARS for tune in drawn]
    free = _drawn_freely(musician, asked[:: len(asked) // _FREE])
    return [
        Figure("valid", _share(valid), "higher", 0.01, meaning=f"share of {len(valid)} drawn tunes whose ABC music21 "
               "reads, with the asked metre, key signature and number of full bars"),
        Figure("bars_add_up", _share(right), "higher", 0.01, _share(free), "drawn without the rules of bars",
               f"share of tunes with exactly {_BARS} full bars; the baseline is of {len(free)} tunes"),
    ]  # fmt: skip


def _drawn_freely(musician: Musician, terms: Sequence[Terms]) -> list[bool]:
    """Whether each tune that the net alone makes has the bars that were asked for."""
    prompts = [musician.lexemes.ids([*each.lexemes(), bar_lexeme(_BARS)]) for each in terms]
    longest = max(most_lexemes(each.metre.bar, _BARS) for each in terms) // 2
    right: list[bool] = []
    for each, ids in zip(
        terms, draw_tokens(musician.net, prompts, longest, seed=0, temperature=SAMPLING.temperature), strict=True
    ):
        lexemes = [bar_lexeme(_BARS), *(musician.lexemes.names[i] for i in ids)]
        right.append(_adds_up(lexemes, each))
    return right


def _adds_up(lexemes: Sequence[str], terms: Terms) -> bool:
    try:
        bars = read_lexemes(lexemes)
    except (ValueError, IndexError):  # a term in the middle, or a length without its note
        return False
    tune = Tune(terms.genre, terms.metre, terms.key, bars)
    return len(bars) == _BARS and tune.adds_up


def _tonic_figures(drawn: Sequence[Tune], split: TuneSplit) -> list[Figure]:
    real = _share([_ends_on_tonic(tune.bars) for tune in split.held_out])
    return [
        Figure("ends_on_tonic", _share([_ends_on_tonic(tune.bars) for tune in drawn]), "higher", 0.05, 1 / 7,
               "one letter of seven", f"share of drawn tunes whose last note is the asked key's tonic; {real:.2f} of "
               "held-out tunes"),
    ]  # fmt: skip


def _ends_on_tonic(bars: Sequence[Bar]) -> bool:
    sounding = [note for note in bars[-1] if note.degree is not None]
    return bool(sounding) and sounding[-1].degree is not None and sounding[-1].degree % 7 == 0


def _novelty_figures(drawn: Sequence[Tune], split: TuneSplit) -> list[Figure]:
    known = KnownMelodies(_real(split.train).melodies)
    runs = [known.longest_run(list(tune.notes)) for tune in drawn]
    real_runs = [known.longest_run(melody) for melody in _real(split.held_out).melodies]
    returning = float(np.mean([returning_bars(tune.bars) for tune in drawn]))
    real_returning = float(np.mean([returning_bars(tune.bars) for tune in split.held_out]))
    return [
        Figure("longest_shared_run", float(np.mean(runs)), "lower", 2.0, float(np.mean(real_runs)), "held-out tunes",
               "notes in a row, by degree and length, that a drawn tune shares with a training tune; mean"),
        Figure("copied", _share([run >= _RUN for run in runs]), "lower", 0.03,
               _share([run >= _RUN for run in real_runs]), "held-out tunes",
               f"share of drawn tunes with {_RUN} notes in a row of a training tune"),
        Figure("returning_bars", returning, "higher", 0.04, real_returning, "held-out tunes",
               "share of a tune's bars that are the same as an earlier one; nearer to real tunes is better"),
    ]  # fmt: skip


def _real(tunes: Sequence[RealTune]) -> _Genres:
    return _Genres([[n for bar in tune.bars for n in bar] for tune in tunes], [tune.terms.genre for tune in tunes])


def _share(each: Sequence[bool]) -> float:
    return float(np.mean(each)) if each else 0.0


def _notes(tunes: Sequence[Tune]) -> list[str]:
    """What to know, and the first tune of each genre, in ABC."""
    scores = [f"The first {tune.genre} that was drawn:\n\n{_indented(write_abc(tune))}" for tune in tunes]
    return [
        f"Tunes are drawn at temperature {SAMPLING.temperature:g} and top-p {SAMPLING.top_p:g}, as a request gets them "
        f"that says nothing else; any of {len(KEYS)} keys may be asked for.",
        "Metre gives much away: a jig is the only one in 6/8 or 9/8, so the judge's rate among genres in 4/4 is given "
        "apart. The collections themselves call some tunes a reel that others call a hornpipe.",
        *scores,
    ]


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in ["```", *text.splitlines(), "```"])

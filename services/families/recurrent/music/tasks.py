"""Owns what clients may ask of a model of tunes: genre, key, metre, length, an opening to go on from, formats."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import ClassVar

from services.families.recurrent.music.abc_reading import AbcError, read_measures
from services.families.recurrent.music.abc_writing import write_abc
from services.families.recurrent.music.checking import Checker
from services.families.recurrent.music.drawing import Musician, tempo_of, tune_of
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import Terms, spell_bars
from services.families.recurrent.music.midi import write_midi
from services.families.recurrent.music.orders import params_of
from services.families.recurrent.music.repertoire import KEYS, Repertoire
from services.families.recurrent.music.sampler import TuneChunk, TuneOrder, TuneParams
from services.families.recurrent.music.scores import Bar, Metre
from services.families.recurrent.music.sound import Instrument
from services.nn.items import item_event
from services.nn.rng import derive_seed, image_seed
from services.nn.text.params import SamplingOptions
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.music import MusicGenerationRequest, Tune

MOST_SOUND = 1200  # seconds of an answer


@dataclass(frozen=True, slots=True, eq=False)
class MusicTask:
    """`n` tunes; a step draws a lexeme of each. `sampling` is that of a request which says nothing."""

    encodes_slowly: ClassVar[bool] = True  # a parser checks each tune

    musician: Musician
    repertoire: Repertoire
    sampling: SamplingOptions
    instrument: Instrument
    checker: Checker

    def prepare(self, request: MusicGenerationRequest, salt: str = "") -> list[TuneParams]:
        """Raises InvalidRequest for what the model does not know, and for an opening that it cannot go on from."""
        self._check(request)
        opening = self._opening(request)
        sampling = SamplingOptions(
            temperature=self.sampling.temperature if request.temperature is None else request.temperature,
            top_p=self.sampling.top_p if request.top_p is None else request.top_p,
        )
        orders: list[TuneOrder] = []
        for i in range(request.n):
            seed = image_seed(request.seed, i)
            terms = self._terms(request, seed)
            tempo = tempo_of(terms.genre) if request.tempo is None else request.tempo
            orders.append(TuneOrder(terms, request.bars, tempo, opening, request.formats, seed))
        if "wav" in request.formats:
            check_sound(orders)
        lexemes, grammar = self.musician.lexemes, self.musician.grammar
        return [params_of(order, lexemes, grammar, sampling, order.seed) for order in orders]

    def encode(self, chunk: TuneChunk) -> Item:
        """Write the tune in the formats that were asked for, and have it checked."""
        tune, order = tune_of(chunk), chunk.order
        abc, formats = write_abc(tune), order.formats
        shown = Tune(
            index=0,
            genre=tune.genre,
            key=str(tune.key),
            meter=str(tune.metre),
            bars=len(tune.bars),
            tempo=tune.tempo,
            seconds=round(tune.seconds, 3),
            valid=tune.adds_up and len(tune.bars) == order.bars and self.checker.is_valid(abc, tune),
            seed=order.seed,
            abc=abc if "abc" in formats else None,
            midi=_base64(write_midi(tune)) if "midi" in formats else None,
            wav=_base64(self.instrument.play(tune)) if "wav" in formats else None,
            musicxml=self.checker.musicxml(abc) if "musicxml" in formats else None,
        )
        return item_event(shown, tokens=len(order.opening))

    def _check(self, request: MusicGenerationRequest) -> None:
        known = self.repertoire
        if request.genre is not None and request.genre not in known.genres:
            raise _unknown("genre", request.genre, known.genres)
        if request.key is not None and Key.parse(request.key) not in KEYS:
            raise _unknown("key", request.key, [str(key) for key in KEYS])
        if request.meter is not None:
            if request.genre is None:
                raise InvalidRequest("A 'meter' comes with its 'genre', as each genre has its own.", param="meter")
            if request.meter not in known.metres[request.genre]:
                raise _unknown("meter", request.meter, sorted(known.metres[request.genre]), f" of a {request.genre}")
        if not known.fewest_bars <= request.bars <= known.most_bars:
            limits = f"from {known.fewest_bars} to {known.most_bars}"
            raise InvalidRequest(f"bars goes {limits} for this model; got {request.bars}.", param="bars")

    def _terms(self, request: MusicGenerationRequest, seed: int) -> Terms:
        """What the request says, else drawn from the row's own seed; the metre is the genre's usual one."""
        genres, uniform = self.repertoire.genres, [derive_seed(seed, i) / 2**63 for i in (1, 2)]
        genre = request.genre or genres[int(uniform[0] * len(genres))]
        metre = Metre.parse(request.meter) if request.meter else self.repertoire.usual_metre(genre)
        asked = Key.parse(request.key or "")
        return Terms(genre, metre, asked or self.repertoire.drawn_key(genre, uniform[1]))

    def _opening(self, request: MusicGenerationRequest) -> tuple[str, ...]:
        """The prompt's lexemes: full bars, and the beginning of one; empty without a prompt."""
        if not request.prompt.strip():
            return ()
        key = Key.parse(request.key or "")
        if key is None or request.genre is None:
            raise InvalidRequest("A 'prompt' comes with its 'genre' and its 'key'.", param="prompt")
        metre = self._terms(request, 0).metre
        try:
            bars = read_measures(request.prompt, key)
        except AbcError as error:
            raise InvalidRequest(f"The prompt is no opening in ABC: {error}.", param="prompt") from error
        check_opening(bars, metre, request.bars)
        lexemes = tuple(spell_bars(bars, request.bars))
        for lexeme in lexemes:
            if lexeme not in self.musician.lexemes:
                raise InvalidRequest(
                    "The prompt has a note or a length that this model's tunes have not; "
                    f"as a degree of the scale, or in eighths: '{lexeme}'.",
                    param="prompt",
                )
        return lexemes


def check_sound(orders: list[TuneOrder]) -> None:
    """Raises InvalidRequest for more sound than an answer holds: a minute takes four megabytes."""
    seconds = sum(order.seconds for order in orders)
    if seconds > MOST_SOUND:
        raise InvalidRequest(
            f"An answer holds {MOST_SOUND} seconds of sound at most; got {seconds:.0f}: ask for fewer tunes, fewer "
            "bars, a higher tempo, or other formats.",
            param="n",
        )


def check_opening(bars: list[Bar], metre: Metre, most: int) -> None:
    """Raises InvalidRequest unless all bars but the last are full, the last is no more, and some room is left."""
    if not bars:
        raise InvalidRequest("The prompt holds no note.", param="prompt")
    lengths = [sum(note.ticks for note in bar) for bar in bars]
    for i, ticks in enumerate(lengths):
        if ticks > metre.bar or (ticks < metre.bar and i < len(bars) - 1):
            raise InvalidRequest(
                f"The prompt's bar {i + 1} holds {ticks / 24:g} eighths; in {metre} it is {metre.bar // 24}. "
                "Leave an upbeat out.",
                param="prompt",
            )
    if len(bars) + (lengths[-1] == metre.bar) > most:
        raise InvalidRequest(f"The prompt has the {most} bars that were asked for already.", param="prompt")


def _unknown(param: str, got: str, choices: list[str] | tuple[str, ...], of: str = "") -> InvalidRequest:
    return InvalidRequest(f"'{param}'{of} is one of {', '.join(choices)}; got '{got}'.", param=param)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

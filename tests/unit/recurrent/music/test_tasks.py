"""From a request to rows, from a row to a tune, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from services.families import LoadedModel
from services.families.recurrent.family import load
from services.families.recurrent.music.abc_reading import read_bars
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.sampler import TuneChunk, TuneParams
from services.nn.errors import UnsupportedModel
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.music import MAX_BARS
from tests.contract.driver import run_rows
from tests.unit.recurrent.music.tiny import music_config, request_of


def rows_of(loaded: LoadedModel, **fields: Any) -> list[TuneParams]:
    return list(loaded.tasks["music"].prepare(request_of(**fields)))


def drawn(loaded: LoadedModel, rows: list[TuneParams]) -> list[TuneChunk]:
    run = run_rows(loaded.sampler, rows)
    return [run.chunks(i)[0] for i in range(1, len(rows) + 1)]


def shown(loaded: LoadedModel, **fields: Any) -> list[dict[str, Any]]:
    items = [loaded.tasks["music"].encode(chunk) for chunk in drawn(loaded, rows_of(loaded, **fields))]
    assert all(isinstance(item, Item) for item in items)
    return [json.loads(item.json) for item in items if isinstance(item, Item)]


def bars_of(tune: dict[str, Any], bar: int) -> list[Any]:
    key = Key.parse(tune["key"])
    assert key is not None
    return read_bars(tune["abc"].split(f"K:{tune['key']}\n")[1], key, bar)


def test_a_tune_is_in_the_genre_key_metre_and_length_that_were_asked_for(fiddler: LoadedModel) -> None:
    wanted = {"genre": "jig", "key": "A dorian", "meter": "9/8", "bars": 6, "tempo": 99, "seed": 3}
    (tune,) = shown(fiddler, **wanted)
    assert {name: tune[name] for name in ("object", "genre", "key", "meter", "bars", "tempo", "seed", "valid")} == {
        **{"object": "tune", "genre": "jig", "key": "Ador", "meter": "9/8", "bars": 6, "tempo": 99, "seed": 3},
        "valid": True,
    }
    assert tune["abc"].startswith("X:1\nT:jig 3\nR:jig\nM:9/8\nL:1/8\nQ:3/8=99\nK:Ador\n")
    assert len(bars_of(tune, 216)) == 6
    assert tune["seconds"] == pytest.approx(6 * 3 * 60 / 99, abs=0.001)
    assert base64.b64decode(tune["midi"]).startswith(b"MThd")
    assert (tune["wav"], tune["musicxml"]) == (None, None)


def test_only_the_formats_asked_for_are_made(fiddler: LoadedModel) -> None:
    (tune,) = shown(fiddler, genre="reel", bars=4, formats=["wav", "musicxml"])
    assert base64.b64decode(tune["wav"]).startswith(b"RIFF")
    assert "<score-partwise" in tune["musicxml"]
    assert (tune["abc"], tune["midi"]) == (None, None)


def test_what_is_left_out_is_drawn_by_the_row_s_seed_or_the_genre_s_usual(fiddler: LoadedModel) -> None:
    rows = rows_of(fiddler, n=40, seed=5)
    assert {row.order.terms.genre for row in rows} == {"reel", "jig", "hornpipe", "strathspey"}
    jigs = [row.order.terms for row in rows if row.order.terms.genre == "jig"]
    assert {str(terms.metre) for terms in jigs} == {"6/8"}
    assert {str(terms.key) for terms in jigs} == {"G", "Ador", "Em"}
    assert {row.order.bars for row in rows} == {16}
    assert {row.order.tempo for row in rows} == {108, 116, 88, 80}


def test_each_tune_comes_again_alone_by_its_seed(fiddler: LoadedModel) -> None:
    first, second = drawn(fiddler, rows_of(fiddler, n=2, seed=9, bars=4))
    assert first.lexemes != second.lexemes
    assert second.order.seed == image_seed(9, 1)
    (again,) = drawn(fiddler, rows_of(fiddler, seed=second.order.seed, bars=4))
    assert again == second


def test_a_request_s_temperature_and_top_p_go_before_the_model_s(music_folder: Path) -> None:
    loaded = load(music_config(music_folder, temperature=0.5, top_p=0.7), music_folder)
    plain, hot = rows_of(loaded)[0].sampling, rows_of(loaded, temperature=1.5, top_p=1)[0].sampling
    assert (plain.temperature, plain.top_p, hot.temperature, hot.top_p) == (0.5, 0.7, 1.5, 1)


@pytest.mark.parametrize("opening", ["GABc", "GABc dedB | G2", "GABc dedB | G2B>c (3ded d2", "GABc dedB |"])
def test_a_tune_goes_on_from_its_opening(fiddler: LoadedModel, opening: str) -> None:
    (tune,) = shown(fiddler, genre="reel", key="G", bars=4, prompt=opening, seed=1)
    bars = bars_of(tune, 192)
    given = bars_of({"key": "G", "abc": f"K:G\n{opening}"}, 192) if opening.endswith("|") else []
    assert bars[: len(given)] == given
    assert tune["valid"]
    assert tune["abc"].split("K:G\n")[1].replace("G2B3/2c/ (3dedd2", "G2B>c (3ded d2").startswith(opening)


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"genre": "polka"}, "genre", "one of hornpipe, jig, reel, strathspey; got 'polka'"),
        ({"key": "H"}, "key", "one of C, D, Eb, E, F, G, A, Bb, "),
        ({"key": "C#"}, "key", "got 'C#'"),
        ({"genre": "reel", "meter": "6/8"}, "meter", "'meter' of a reel is one of 4/4; got '6/8'"),
        ({"meter": "6/8"}, "meter", "comes with its 'genre'"),
        ({"bars": 3}, "bars", "from 4 to 32 for this model; got 3"),
        ({"bars": MAX_BARS}, "bars", "got 256"),
        ({"prompt": "GABc"}, "prompt", "comes with its 'genre' and its 'key'"),
        ({"genre": "reel", "key": "G", "prompt": "GA&B"}, "prompt", "no opening in ABC: '&B' cannot be read"),
        ({"genre": "reel", "key": "G", "prompt": "A | GABc dedB |"}, "prompt", "bar 1 holds 1 eighths; in 4/4 it is 8"),
        ({"genre": "reel", "key": "G", "prompt": "GABc dedB G"}, "prompt", "bar 1 holds 9 eighths"),
        ({"genre": "reel", "key": "G", "prompt": "(3AB | GABc dedB |"}, "prompt", "triplet"),
        ({"genre": "reel", "key": "G", "bars": 4, "prompt": "G8|A8|B8|c8|"}, "prompt", "4 bars that were asked for"),
        ({"genre": "reel", "key": "G", "bars": 4, "prompt": "G8|A8|B8|c8|d"}, "prompt", "4 bars that were asked for"),
        ({"genre": "reel", "key": "G", "prompt": "G'''"}, "prompt", "this model's tunes have not"),
        ({"genre": "reel", "key": "G", "prompt": "|:"}, "prompt", "holds no note"),
        ({"n": 64, "bars": 32, "formats": ["wav"]}, "n", "1200 seconds of sound"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(
    fiddler: LoadedModel, fields: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rows_of(fiddler, **fields)
    assert refused.value.param == param
    assert says in refused.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 2, "genre": "jig", "meter": "9/8", "bars": 8},
        {"genre": "reel", "key": "G", "bars": 5, "prompt": "GABc dedB | G/A/B/c/ d/c/B/A/ G/A/B/c/ d/c/B/A/ |"},
    ],
)
def test_no_request_costs_more_than_the_gateway_takes_it_to(
    fiddler: LoadedModel, music_folder: Path, fields: dict[str, Any]
) -> None:
    rows, request = rows_of(fiddler, **fields), request_of(**fields)
    bound = music_config(music_folder).cost_bound(request, fiddler.limits)
    assert 0.4 * bound < sum(row.cost for row in rows) <= bound
    units = [run_rows(fiddler.sampler, [row]).final(1).units for row in rows]
    assert all(unit <= row.cost for unit, row in zip(units, rows, strict=True))


def test_a_soundfont_that_is_not_there_is_refused_when_the_model_is_loaded(music_folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="soundfont"):
        load(music_config(music_folder, soundfont="/nowhere/font.sf2"), music_folder)

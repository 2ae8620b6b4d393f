from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from services.cli.generate.products import PRODUCTS
from shared.schemas.audio import AudioCompletedEvent, AudioUsage
from shared.schemas.forecasts import Forecast, QuantilePath
from shared.schemas.levels import Level
from shared.schemas.molecules import Molecule
from shared.schemas.music import Tune
from shared.schemas.records import RecordRow
from tests.unit.cli.conftest import Run
from tests.unit.cli.wire_server import WireServer

BY_TASK = {product.task: product for product in PRODUCTS}
SERIES = "month,sales,returns\n2024-01,3,1\n2024-02,4,0\n"
ARGUMENTS = {"forecast": ["sales.csv", "--horizon", "2"], "speech": ["a b", "--voice", "allison"], "sound": ["snare"]}
ABC = "X:1\nK:G\nGABc|\n"
WORK = AudioUsage(input_tokens=1, output_tokens=1, total_tokens=2)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def item(task: str, index: int) -> Mapping[str, Any]:
    """What a gateway answers, by its own schema."""
    seed = 50 + index
    items = {
        "music": lambda: Tune(
            index=index, genre="jig", key="G", meter="6/8", bars=8, tempo=120, seconds=9.0, valid=True, seed=seed,
            abc=ABC, midi=encoded(b"MThd"), wav=encoded(b"RIFF"), musicxml="<score/>",
        ),
        "molecule": lambda: Molecule(
            index=index, smiles="C" * (index + 1), valid=True, svg="<svg/>", attempts=1, seed=seed,
        ),
        "record": lambda: RecordRow(index=index, record={"age": 40 + index, "arm": "a, b"}, seed=seed),
        "level": lambda: Level(
            index=index, text="###\n#@#\n###\n", width=3, height=3, well_formed=True, playable="true", attempts=1,
            seed=seed, b64_json=encoded(b"PNG"),
        ),
        "forecast": lambda: Forecast(
            index=index, times=["2024-03", "2024-04"], mean=[5.0, 6.0], samples=9, seed=seed,
            quantiles=[QuantilePath(level=level, values=[level, level + 1]) for level in (0.1, 0.9)],
        ),
    }  # fmt: skip
    return items[task]().model_dump()


def serve(server: WireServer, task: str, count: int = 1) -> None:
    """The items come in the reverse of their order."""
    server.models = [{"id": f"{task}-model", "family": "f", "tasks": [task], "state": "ready", "license": "MIT"}]
    if task in ("speech", "sound"):
        server.file = b"RIFFspeech"
        for index in reversed(range(count)):
            delta = {"type": "audio.generation.delta", "index": index}
            server.events += [{**delta, "audio": encoded(b"RIFF")}, {**delta, "audio": encoded(str(index).encode())}]
            end = AudioCompletedEvent(
                type="audio.generation.completed", index=index, format="wav", seconds=1.0, sample_rate=8000,
                seed=50 + index, usage=WORK,
            )  # fmt: skip
            server.events.append(end.model_dump())
        return
    usage = {"prompt_tokens": 0, "total_tokens": 0, "units": 1.0}
    end = {"object": "list.end", "created": 1, "model": "the-one-that-answered", "usage": usage}
    server.lines = [*(item(task, index) for index in reversed(range(count))), end]


@pytest.fixture(autouse=True)
def sales(run: Run) -> None:
    Path("sales.csv").write_text(SERIES)


@pytest.mark.parametrize(
    ("task", "suffix"), [(product.task, suffix) for product in PRODUCTS for suffix in product.file_types]
)
def test_every_type_of_file_of_every_task_is_asked_for_by_its_schema_and_written(
    run: Run, server: WireServer, task: str, suffix: str
) -> None:
    serve(server, task)
    result = run(
        "generate", task, *ARGUMENTS.get(task, []), "--out", f"made{suffix}", "--seed", "7", "--url", server.url
    )
    assert result.exit_code == 0, result.output
    assert Path(f"made{suffix}").read_bytes()
    assert re.fullmatch(rf"made\{suffix}  \S+  seed 7  \d+\.\d s\n", result.stdout)
    BY_TASK[task].request.model_validate_json(json.dumps(server.asked[0]))


@pytest.mark.parametrize(
    ("task", "options", "asked"),
    [
        ("music", "--genre jig --bars 8 --tempo 90 --temperature 0.5", {"genre": "jig", "bars": 8, "tempo": 90}),
        ("molecule", "--scaffold C1 --valid-only --no-properties", {"valid_only": True, "properties": False}),
        ("forecast", "--quantiles 0.05 --quantiles 0.95", {"quantiles": [0.05, 0.95], "horizon": 2}),
        ("speech", "--speed 1.5", {"input": "a b", "voice": "allison", "speed": 1.5, "response_format": "wav"}),
        ("sound", "--seconds 2", {"prompt": "snare", "seconds": 2.0}),
    ],
)
def test_options_reach_the_wire_with_the_types_of_the_schema(
    run: Run, server: WireServer, task: str, options: str, asked: Mapping[str, object]
) -> None:
    serve(server, task)
    result = run("generate", task, *ARGUMENTS.get(task, []), *options.split(), "--model", "mine", "--url", server.url)
    assert result.exit_code == 0, result.output
    assert {**server.asked[0], **asked, "model": "mine"} == server.asked[0]
    BY_TASK[task].request.model_validate_json(json.dumps(server.asked[0]))


def test_what_is_text_is_printed_alone_and_said_beside(run: Run, server: WireServer) -> None:
    serve(server, "molecule", 3)
    result = run("generate", "molecule", "-n", "3", "--url", server.url)
    assert result.stdout == "C\nCC\nCCC\n"
    assert re.fullmatch(r"molecule  the-one-that-answered  seed \d+  \d+\.\d s\n", result.stderr)
    assert str(server.asked[0]["seed"]) in result.stderr, "a seed that nobody gave is drawn, sent and told"


def test_several_files_are_numbered_and_each_has_its_own_seed(run: Run, server: WireServer) -> None:
    serve(server, "sound", 2)
    result = run("generate", "sound", "snare", "-n", "2", "--out", "snare.wav", "--url", server.url)
    assert [Path(f"snare-{i}.wav").read_bytes() for i in (1, 2)] == [b"RIFF0", b"RIFF1"]
    assert re.findall(r"seed (\d+)", result.stdout) == ["50", "51"]


def test_records_go_into_one_table_with_its_quotes(run: Run, server: WireServer) -> None:
    serve(server, "record", 2)
    run("generate", "record", "-n", "2", "--out", "made.csv", "--url", server.url)
    with Path("made.csv").open(newline="") as file:
        assert [*csv.reader(file)] == [["age", "arm"], ["40", "a, b"], ["41", "a, b"]]


def test_a_forecast_reads_a_series_for_each_column_and_tells_quantiles_by_time(run: Run, server: WireServer) -> None:
    serve(server, "forecast", 2)
    result = run("generate", "forecast", "sales.csv", "--horizon", "2", "--url", server.url)
    times = ["2024-01", "2024-02"]
    assert server.asked[0]["input"] == [{"values": [3.0, 4.0], "times": times}, {"values": [1.0, 0.0], "times": times}]
    rows = [*csv.reader(result.stdout.splitlines())]
    assert rows[0] == ["series", "time", "mean", "q0.1", "q0.9"]
    assert rows[-1] == ["1", "2024-04", "6.0", "1.1", "1.9"]


def test_series_come_from_standard_input_and_from_json(run: Run, server: WireServer) -> None:
    serve(server, "forecast")
    run("generate", "forecast", "-", "--horizon", "2", "--url", server.url, input="value\n1\n2\n")
    Path("s.json").write_text('{"values": [1, 2], "period": 2}')
    run("generate", "forecast", "s.json", "--horizon", "2", "--url", server.url)
    assert [asked["input"] for asked in server.asked] == [[{"values": [1.0, 2.0]}], {"values": [1, 2], "period": 2}]


@pytest.mark.parametrize("text", ["", "value\n", "time,value\n1,2\n3\n", "value\nmuch\n"])
def test_a_file_without_series_is_named_before_anything_is_asked(run: Run, server: WireServer, text: str) -> None:
    serve(server, "forecast")
    Path("bad.csv").write_text(text)
    result = run("generate", "forecast", "bad.csv", "--horizon", "2", "--url", server.url)
    assert (result.exit_code, server.asked) == (1, [])
    assert "bad.csv" in result.stderr


def test_a_file_that_is_there_and_another_suffix_are_refused_before_anything_is_asked(
    run: Run, server: WireServer
) -> None:
    serve(server, "music")
    Path("tune.mid").write_bytes(b"mine")
    for name, said in (("tune.mid", "--overwrite"), ("tune.ogg", ".musicxml")):
        result = run("generate", "music", "--out", name, "--url", server.url)
        assert result.exit_code == 1
        assert said in result.stderr
    assert (server.asked, Path("tune.mid").read_bytes()) == ([], b"mine")
    assert run("generate", "music", "--out", "tune.mid", "--overwrite", "--url", server.url).exit_code == 0
    assert Path("tune.mid").read_bytes() == b"MThd"


@pytest.mark.parametrize(
    ("task", "spoil"),
    [
        ("record", lambda server: server.lines.pop()),
        (
            "record",
            lambda server: server.lines.insert(0, {"error": {"message": "it failed", "code": "internal_error"}}),
        ),
        ("record", lambda server: server.lines[0].pop("record")),
        ("level", lambda server: server.lines[0].update(b64_json="?")),
        ("sound", lambda server: setattr(server, "ending", "cut")),
        ("speech", lambda server: setattr(server, "ending", "cut")),
    ],
)
def test_an_answer_that_is_not_whole_is_one_line_and_no_file(
    run: Run, server: WireServer, task: str, spoil: Any
) -> None:
    serve(server, task)
    spoil(server)
    suffix = ".png" if task == "level" else next(iter(BY_TASK[task].file_types))
    result = run("generate", task, *ARGUMENTS.get(task, []), "--out", f"made{suffix}", "--url", server.url)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert not Path(f"made{suffix}").exists()


def test_no_model_of_the_task_names_those_that_are_served(run: Run, server: WireServer) -> None:
    result = run("generate", "music", "--url", server.url)
    assert result.exit_code == 1
    assert "painter" in result.stderr


def test_help_lists_every_task(run: Run) -> None:
    listed = run("generate", "--help").stdout
    assert all(f" {task} " in listed for task in ("text", "image", *BY_TASK))
    assert "--scaffold" in run("generate", "molecule", "--help").stdout

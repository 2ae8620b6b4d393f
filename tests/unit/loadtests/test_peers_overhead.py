"""The overhead figure: the model that costs nothing, the same request in process, and what counts as added."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from loadtests.client import Answer, Window
from loadtests.overhead import InProcess, Plan, _load, add
from loadtests.overhead_report import FLEET, IN_PROCESS, Cell, Overheads, tables, write
from loadtests.peers.echo_servers import LETTERS, speech_letters
from loadtests.peers.instant import MOST_STEPS, PIECE, InstantSampler, instant_options
from loadtests.sse import EventReader
from services.engine.engine import Engine
from services.families.plugin.family import load
from services.gateway.audio_wire import AudioCounts, SpeechEvents
from services.row_events import row_events
from services.sources import resolve
from shared.config.plugin import PluginModel
from shared.schemas.audio import SpeechRequest
from shared.schemas.embeddings import EmbeddingRequest


def config(folder: Path) -> PluginModel:
    return PluginModel.model_validate({"id": "instant", "license": "unknown", **instant_options(folder, 4)})


def test_the_instant_model_loads_as_any_plug_in_does(tmp_path: Path) -> None:
    folder = tmp_path / "instant"
    options = config(folder)
    assert resolve(options.source, tmp_path) == folder
    loaded = load(options, folder)
    assert isinstance(loaded.sampler, InstantSampler)
    assert set(loaded.tasks) == {"embedding", "speech"}
    assert len(LETTERS) <= MOST_STEPS


def test_its_rows_end_after_a_step_a_letter_and_share_batches(tmp_path: Path) -> None:
    loaded = load(config(tmp_path / "instant"), tmp_path / "instant")
    engine = Engine({"instant": loaded.sampler}, max_waiting_cost=100.0)
    speech = loaded.tasks["speech"].prepare(SpeechRequest(model="instant", input=LETTERS, voice="any"))
    vector = loaded.tasks["embedding"].prepare(EmbeddingRequest(model="instant", input="a"))
    engine.submit("instant", [*speech, *vector])
    ends: dict[int, int] = {}
    step = 0
    while engine.has_work:
        step += 1
        for output in engine.step():
            if output.finish_reason is not None:
                ends[output.row] = step
    assert ends[0] - ends[1] == len(LETTERS) - 1


async def test_its_stream_is_what_the_client_counts(tmp_path: Path) -> None:
    """From the engine's outputs to the gateway's bytes, less the hop between."""
    subject = InProcess(tmp_path)
    task = subject._loaded.tasks["speech"]
    async with subject.session():
        assert subject._engine is not None
        params = task.prepare(SpeechRequest(model="instant", input=LETTERS, voice="any", response_format="pcm"))
        outputs = subject._engine.submit("instant", params)
        wire = SpeechEvents(AudioCounts())
        batches = row_events(outputs, rows=1, encode=task.encode, report=lambda *_: None, flush_s=0.001)
        data = b"".join([wire.encode(batch) async for batch in batches]) + wire.last()
    assert speech_letters(EventReader().feed(data)) == len(LETTERS)
    assert len(PIECE) % 3 == 0, "pieces that are joined in base64 are counted by their length"


def test_the_engine_in_process_is_loaded_as_a_server_is(tmp_path: Path) -> None:
    results, subject = Overheads(), InProcess(tmp_path)
    said = asyncio.run(_load(subject, "stream", 2, Plan((2,), 1, 0.05), results))
    figures = results.cells[Cell("stream", 2, IN_PROCESS)]
    assert 0 < figures.first_p50[0] <= figures.end_p50[0] <= figures.end_p99[0] < 1
    assert figures.per_second[0] > 10
    assert figures.all_cpu_us[0] > 0
    assert said.startswith(f"{IN_PROCESS}, p50 ")


def test_quantiles_are_of_answers_that_began_inside_the_window_and_cpu_is_a_request() -> None:
    results, cell = Overheads(), Cell("whole", 1, "LitServe")
    early = Answer(9.0, 10.5, 10.5, 1)
    answers = tuple(Answer(10 + i, 10 + i + 0.1 * (i + 1), 10 + i + 0.2 * (i + 1), 1) for i in range(3))
    add(results, cell, Window(10.0, 20.0, (early, *answers), client_cpu_s=1.0), {"server": 2.0})
    figures = results.cells[cell]
    assert (figures.end_p50, figures.end_p99) == (pytest.approx([0.4]), pytest.approx([0.6]))
    assert (figures.first_p50, figures.first_p99) == (pytest.approx([0.2]), pytest.approx([0.3]))
    assert figures.all_cpu_us == pytest.approx([2e6 / (3 + 0.5 / 1.5)])


@pytest.fixture
def results() -> Overheads:
    found = Overheads(options="--rounds 2", seconds=90.0)
    for server, seconds in ((IN_PROCESS, 0.001), (FLEET, 0.004), ("LitServe", 0.003)):
        for slower in (1.0, 1.5):
            window = Window(0.0, 1.0, (Answer(0.1, 0.1 + seconds * slower, 0.1 + seconds * slower, 1),), 0.1)
            spent = {"gateway": 0.002, "HAProxy": 0.001} if server == FLEET else {"server": 0.003}
            add(found, Cell("whole", 1, server), window, spent)
    return found


def test_the_fleet_adds_what_it_takes_over_the_engine_and_others_all_that_they_take(results: Overheads) -> None:
    assert results.added(Cell("whole", 1, FLEET), "end_p50") == pytest.approx([0.003, 0.0045])
    assert results.added(Cell("whole", 1, "LitServe"), "end_p99") == pytest.approx([0.003, 0.0045])


def test_the_report_has_what_was_measured_and_no_empty_table(results: Overheads, tmp_path: Path) -> None:
    assert [table.title for table in tables(results)] == ["One small JSON object", "What the fleet spends"]
    text = write(results, tmp_path, "What it is.").read_text()
    assert "`python -m loadtests.overhead --rounds 2`: 90 s" in text
    row = next(line for line in text.splitlines() if line.startswith(f"| 1 | {FLEET} |"))
    assert "| 5.0 (4.0 to 6.0) |" in row
    assert "| 3.8 (3.0 to 4.5) |" in row
    assert "| one small json object | 1 | gateway | 2000 (2000 to 2000) |" in text
    cells = json.loads((tmp_path / "overhead.json").read_text())["cells"]
    assert [cell["server"] for cell in cells] == [IN_PROCESS, FLEET, "LitServe"]

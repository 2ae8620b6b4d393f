from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.wire_server import WireServer

STEPS = 20


def event(data: bytes, *, index: int = 0, step: int | None = None, **fields: object) -> dict[str, object]:
    """A preview where a step is given, else an image."""
    own = {"sha256": hashlib.sha256(data).hexdigest()} if step is None else {"step": step, "partial_image_index": 0}
    name = "completed" if step is None else "partial_image"
    shared = {"type": f"image_generation.{name}", "index": index, "steps": STEPS, "seed": 40 + index}
    return {**shared, **own, "b64_json": base64.b64encode(data).decode(), **fields}


@pytest.fixture
def painter(server: WireServer) -> WireServer:
    server.events = [event(b"half", step=10), event(b"whole")]
    return server


def test_image_writes_the_file_and_prints_what_makes_it_again(run: Run, painter: WireServer) -> None:
    result = run("image", "red heart", "-o", "made/heart.png", "--url", painter.url)
    assert result.exit_code == 0, result.output
    assert Path("made/heart.png").read_bytes() == b"whole"
    said = rf"made/heart.png  painter  seed 40  \d+\.\d s  sha256 {hashlib.sha256(b'whole').hexdigest()}\n"
    assert re.fullmatch(said, result.stdout)
    assert [path.name for path in Path("made").iterdir()] == ["heart.png"]
    assert painter.asked[0] == {
        "model": "painter",
        "prompt": "red heart",
        "n": 1,
        "output_format": "png",
        "partial_images": 0,
        "stream": True,
    }


def test_every_option_reaches_the_wire(run: Run, painter: WireServer) -> None:
    drawing = "--steps 9 --guidance 2.5 --negative blur --solver ddim --truncation 0.5 --size 32x32 --seed 4 -n 2"
    run("image", "x", "--model", "other", "-o", "x.webp", *drawing.split(), "--url", painter.url)
    given = {key: value for key, value in painter.asked[0].items() if key not in ("prompt", "stream", "partial_images")}
    assert given == {
        "model": "other",
        "output_format": "webp",
        "steps": 9,
        "guidance_scale": 2.5,
        "negative_prompt": "blur",
        "solver": "ddim",
        "truncation": 0.5,
        "size": "32x32",
        "seed": 4,
        "n": 2,
    }


def test_previews_are_kept_where_they_are_asked_for(run: Run, painter: WireServer) -> None:
    run("image", "x", "-o", "heart.png", "--previews", "way", "--url", painter.url)
    assert Path("way/heart-step-010.png").read_bytes() == b"half"
    assert painter.asked[0]["partial_images"] == 3


def test_several_images_are_numbered(run: Run, painter: WireServer) -> None:
    painter.events = [event(b"second", index=1), event(b"first")]
    run("image", "x", "-n", "2", "-o", "heart.jpg", "--url", painter.url)
    assert (Path("heart-1.jpg").read_bytes(), Path("heart-2.jpg").read_bytes()) == (b"first", b"second")


def test_an_image_that_is_there_stays_unless_it_is_told_otherwise(run: Run, painter: WireServer) -> None:
    Path("heart-2.png").write_bytes(b"mine")
    refused = run("generate", "image", "x", "-n", "2", "--out", "heart.png", "--url", painter.url)
    assert (refused.exit_code, painter.asked, Path("heart-2.png").read_bytes()) == (1, [], b"mine")
    assert "heart-2.png" in refused.stderr
    painter.events = [event(b"first"), event(b"second", index=1)]
    run("generate", "image", "x", "-n", "2", "--out", "heart.png", "--overwrite", "--url", painter.url)
    assert Path("heart-2.png").read_bytes() == b"second"


def test_more_images_than_were_asked_for_are_one_line(run: Run, painter: WireServer) -> None:
    painter.events = [event(b"other", index=1)]
    result = run("image", "x", "--url", painter.url)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_another_suffix_is_refused_before_anything_is_asked(run: Run, painter: WireServer) -> None:
    result = run("image", "x", "-o", "heart.gif", "--url", painter.url)
    assert result.exit_code == 1
    assert ".webp" in result.stderr
    assert not painter.asked


def test_a_damaged_image_is_not_written(run: Run, painter: WireServer) -> None:
    painter.events = [event(b"whole", sha256="0" * 64)]
    result = run("image", "x", "--url", painter.url)
    assert result.exit_code == 1
    assert "content hash" in result.stderr
    assert not Path("image.png").exists()


def test_an_event_that_is_no_image_is_one_line(run: Run, painter: WireServer) -> None:
    painter.events = [{"type": "image_generation.completed", "b64_json": "?"}]
    result = run("image", "x", "--url", painter.url)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_a_stream_that_is_cut_says_so(run: Run, painter: WireServer) -> None:
    painter.events, painter.ending = [event(b"half", step=10)], "cut"
    result = run("image", "x", "--url", painter.url)
    assert result.exit_code == 1
    assert "the answer was cut off" in result.stderr


def test_a_file_that_cannot_be_written_is_named(run: Run, painter: WireServer) -> None:
    Path("taken").write_text("a file, not a folder")
    result = run("image", "x", "-o", "taken/heart.png", "--url", painter.url)
    assert result.exit_code == 1
    assert "taken/heart.png" in result.stderr


def test_a_truncation_out_of_range_is_the_servers_to_refuse(run: Run, painter: WireServer) -> None:
    run("image", "x", "--truncation", "0", "--url", painter.url)
    assert painter.asked[0]["truncation"] == 0
    result = run("image", "x", "--truncation", "-1", "--overwrite", "--url", painter.url)
    assert result.exit_code == 0, "the command line has no bounds of its own, which may differ from the server's"

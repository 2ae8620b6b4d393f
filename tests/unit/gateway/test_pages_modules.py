"""The pages' modules: their syntax, and what those that need no browser do. By Node.js, where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.gateway.routes_pages import FOLDER
from tests.unit.gateway.list_fakes import list_gateway

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
MODULES = sorted(FOLDER.glob("*.js"))


def node(*arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run([NODE, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)


def run(folder: Path, script: str) -> str:
    """What a script prints that stands beside copies of the modules, whose ending tells Node.js what they are."""
    for module in MODULES:
        (folder / f"{module.stem}.mjs").write_text(re.sub(r'"/pages/(\w+)\.js"', r'"./\1.mjs"', module.read_text()))
    (folder / "script.mjs").write_text(f'import assert from "node:assert/strict";\n{script}')
    result = node(str(folder / "script.mjs"), text="")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_is_well_formed(module: Path) -> None:
    result = node("--input-type=module", "--check", text=module.read_text())
    assert result.returncode == 0, result.stderr


def test_seeds_of_64_bits_are_read_and_written_exactly_and_texts_are_left_alone(tmp_path: Path) -> None:
    run(
        tmp_path,
        r"""
        import { parse, write } from "./exact_json.mjs";
        const text = '{"seed":9223372036854775807,"n":1,"text":"{\\"seed\\":9223372036854775807}"}';
        assert.equal(parse(text).seed, "9223372036854775807");
        assert.equal(write(parse(text)), text);
        assert.equal(parse('{"seed": 7}').seed, 7);
        assert.match(write({ seed: "-9223372036854775808" }, 2), /"seed": -9223372036854775808/);
        const quoted = { messages: [{ content: '"seed":"12"' }] };
        assert.deepEqual(JSON.parse(write(quoted)), quoted);
        """,
    )


def test_csv_is_read_and_written(tmp_path: Path) -> None:
    run(
        tmp_path,
        r"""
        import { readCsv, writeCsv } from "./csv.mjs";
        const records = [{ a: "1", b: 'said "so"' }, { a: "two, three", b: "" }, { a: "x\ny", b: "☃" }];
        assert.deepEqual(readCsv(writeCsv(["a", "b"], records)), records);
        assert.deepEqual(readCsv("a,b\n1,2\n"), [{ a: "1", b: "2" }]);
        """,
    )


def test_a_level_is_played_by_its_rules(tmp_path: Path) -> None:
    run(
        tmp_path,
        r"""
        import { Game, isLevel, STEPS } from "./sokoban.mjs";
        const text = "######\n#@$ .#\n######";
        assert.ok(isLevel(text) && !isLevel("abc"));
        const game = new Game(text);
        assert.ok(!game.move(STEPS.left) && !game.move(STEPS.up));
        assert.ok(game.move(STEPS.right) && !game.isSolved);
        assert.ok(game.move(STEPS.right) && game.isSolved && !game.move(STEPS.right));
        assert.equal(game.moves, 2);
        assert.ok(game.undo() && !game.isSolved && game.undo() && !game.undo());
        assert.ok(!new Game("@$$").move(STEPS.right));
        assert.ok(!new Game("  @\n   ").move(STEPS.right));
        """,
    )


def test_a_wav_is_read_in_pieces(tmp_path: Path) -> None:
    run(
        tmp_path,
        r"""
        import { joined, SoundReader, writeWav } from "./wav.mjs";
        const samples = Float32Array.from([0, 0.5, -0.5, 0.25]);
        const bytes = new Uint8Array(await writeWav(samples, 8000).arrayBuffer());
        const reader = new SoundReader();
        const found = joined([...bytes].map((byte) => reader.push(Uint8Array.of(byte))));
        assert.equal(reader.rate, 8000);
        assert.deepEqual([...found].map((sample) => Math.round(100 * sample)), [0, 50, -50, 25]);
        assert.equal(new SoundReader(24000).push(Uint8Array.of(0, 64, 1)).length, 1);
        """,
    )


def test_a_tune_is_read_with_its_lengths_and_signature(tmp_path: Path) -> None:
    run(
        tmp_path,
        r"""
        import { changed, readTune } from "./abc.mjs";
        const tune = readTune("X:1\nM:6/8\nL:1/8\nK:Ador\n^A2 c' z/ | (3abc d3/2 |]\n");
        assert.deepEqual([tune.meter, tune.signature, changed(tune.signature)], ["6/8", 1, ["F"]]);
        const lengths = tune.bars.map((bar) => bar.map((note) => note.length));
        assert.deepEqual(lengths, [[0.25, 0.125, 0.0625], [0.125, 0.125, 0.125, 0.1875]]);
        const placed = tune.bars[0].map((note) => [note.step, note.accidental, note.isRest]);
        assert.deepEqual(placed, [[5, "^", false], [14, "", false], [6, "", true]]);
        assert.deepEqual(tune.bars[1].map((note) => note.inTriplet), [true, true, true, false]);
        assert.deepEqual(["Bb", "Em", "Gmix", "Ddor"].map((key) => readTune(`K:${key}\nG`).signature), [-2, 1, 0, 0]);
        """,
    )


def test_notes_of_a_midi_file_are_read(tmp_path: Path) -> None:
    run(
        tmp_path,
        r"""
        import { readNotes } from "./midi.mjs";
        const tempo = [0, 0xff, 0x51, 3, 0x07, 0xa1, 0x20];
        const quarter = [0, 0x90, 60, 90, 0x60, 60, 0]; // its end is a note of no velocity, without a status
        const half = [0, 64, 90, 0x81, 0x40, 0x80, 64, 0];
        const track = [...tempo, ...quarter, ...half, 0, 0xff, 0x2f, 0];
        const head = [0x4d, 0x54, 0x68, 0x64, 0, 0, 0, 6, 0, 0, 0, 1, 0, 96];
        const file = Uint8Array.from([...head, 0x4d, 0x54, 0x72, 0x6b, 0, 0, 0, track.length, ...track]);
        const expected = [{ pitch: 60, start: 0, end: 0.5 }, { pitch: 64, start: 0.5, end: 1.5 }];
        assert.deepEqual(readNotes(file), expected);
        """,
    )


def test_forms_know_the_kinds_bounds_and_defaults_of_every_operation(tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(list_gateway().app.openapi()))
    run(
        tmp_path,
        r"""
        import { readFileSync } from "node:fs";
        import { fieldsOf } from "./schema.mjs";
        const openapi = JSON.parse(readFileSync(new URL("openapi.json", import.meta.url)));
        const named = (path) => Object.fromEntries(fieldsOf(openapi, path).map((field) => [field.name, field]));
        const image = named("/v1/images/generations");
        const { steps } = image;
        assert.deepEqual([steps.kind, steps.min, steps.max, steps.default], ["integer", 1, 1000, null]);
        assert.deepEqual([image.truncation.isOpenBelow, image.prompt.required, image.n.default], [true, true, 1]);
        const kinds = ["output_format", "solver", "stream"].map((name) => image[name].kind);
        assert.deepEqual(kinds, ["choice", "choice", "boolean"]);
        assert.deepEqual(named("/v1/music/generations").formats.options, ["abc", "midi", "wav", "musicxml"]);
        assert.equal(named("/v1/forecasts").quantiles.kind, "numbers");
        assert.equal(named("/v1/audio/speech").voice.kind, "text");
        assert.deepEqual(fieldsOf(openapi, "/nowhere"), []);
        """,
    )


def test_links_share_parameters_and_the_seed_and_no_content(tmp_path: Path) -> None:
    run(
        tmp_path,
        r"""
        globalThis.location = { origin: "http://here", hash: "" };
        const { readLink, start, writeLink } = await import("./link.mjs");
        const seed = "9223372036854775807";
        const link = writeLink("a/b", "image", { steps: 20, seed, prompt: "secret", quantiles: [0.1, 0.9] });
        assert.ok(!link.includes("secret"));
        location.hash = new URL(link).hash;
        const { model, task, values } = readLink();
        assert.deepEqual([model, task], ["a/b", "image"]);
        const kinds = { steps: "integer", seed: "integer", quantiles: "numbers", prompt: "text" };
        const fields = Object.entries(kinds).map(([name, kind]) => ({ name, kind, options: [] }));
        const expected = { steps: 20, seed, quantiles: ["0.1", "0.9"] };
        assert.deepEqual(start(fields, { ...values, prompt: "x" }), expected);
        """,
    )


def test_snippets_quote_whatever_was_asked(tmp_path: Path) -> None:
    script = r"""
        globalThis.location = { origin: "http://here" };
        const { asCurl, asPython } = await import("./snippets.mjs");
        const body = { model: "m", prompt: "it's \"so\"\n☃", seed: "9223372036854775807", stream: true };
        Object.assign(body, { list: [{ a: null }], x: [1, false] });
        console.log(JSON.stringify({ curl: asCurl("/v1/x", body), python: asPython("/v1/x", body) }));
        """
    snippets = json.loads(run(tmp_path, script))
    expected = {
        "model": "m",
        "prompt": 'it\'s "so"\n☃',
        "seed": 9223372036854775807,
        "stream": True,
        "list": [{"a": None}],
        "x": [1, False],
    }
    source = snippets["python"].partition("body = ")[2].partition("\nwith httpx")[0]
    assert eval(source) == expected
    compile(snippets["python"], "snippet", "exec")
    shell = snippets["curl"].partition("-d ")[2]
    echoed = subprocess.run(["sh", "-c", f"printf '%s' {shell}"], capture_output=True, text=True, check=True)
    assert json.loads(echoed.stdout) == expected

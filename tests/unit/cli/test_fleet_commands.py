import subprocess
import sys
from pathlib import Path

import pytest

from services.sources import write_manifest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fleets import FakeFleets, state
from tests.unit.cli.wire_server import WireServer
from tests.unit.sources.material import checkpoint_files, write_files

MODELS = "services: [{{name: chat, family: transformer, models: [{{id: tiny, source: 'file://{folder}'}}]}}]"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models.yaml with one model, in the working directory."""
    write_manifest(write_files(tmp_path / "model", checkpoint_files()))
    (tmp_path / "models.yaml").write_text(MODELS.format(folder=tmp_path / "model"))
    return tmp_path / "models.yaml"


def test_a_relative_file_of_keys_is_meant_from_where_the_command_runs(
    run: Run, fleets: FakeFleets, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASTALIA_API_KEYS_FILE", "keys.txt")
    assert run("up").exit_code == 0
    assert fleets.started[0][2].api_keys_file == Path.cwd() / "keys.txt"


@pytest.mark.parametrize(
    ("options", "is_told"),
    [(("--host", "0.0.0.0"), True), ((), False)],
)
def test_up_says_how_to_make_a_key_where_nobody_gets_in_without_one(
    run: Run, fleets: FakeFleets, models: Path, options: tuple[str, ...], is_told: bool
) -> None:
    result = run("up", *options)
    assert result.exit_code == 0
    assert ("keys create NAME" in result.stdout) is is_told


def test_up_starts_the_fleet_and_shows_three_things_to_try(run: Run, fleets: FakeFleets, models: Path) -> None:
    result = run("up", "--port", "8123", "--name", "mine")
    assert result.exit_code == 0
    path, name, settings = fleets.started[0]
    assert (path, name, settings.port, settings.host) == (Path("models.yaml"), "mine", 8123, "127.0.0.1")
    assert settings.home.is_absolute()
    assert "starting Ray\n" in result.stderr
    for text in (
        "Ready at http://127.0.0.1:8123",
        "castalia chat --url http://127.0.0.1:8123",
        "curl http://127.0.0.1:8123/v1/chat/completions",
        "from openai import OpenAI",
        '"model": "tiny"',
        "castalia down mine",
    ):
        assert text in result.stdout


def test_up_shows_how_to_draw_where_a_model_draws(run: Run, fleets: FakeFleets, models: Path) -> None:
    models.write_text(models.read_text().replace("family: transformer", "family: diffusion"))
    result = run("up")
    assert 'castalia generate image "red heart" --model tiny' in result.stdout
    assert "castalia chat" not in result.stdout


def test_up_in_the_foreground_shows_the_same_and_returns_when_the_fleet_ends(
    run: Run, fleets: FakeFleets, models: Path
) -> None:
    result = run("up", "--foreground")
    assert result.exit_code == 0
    assert "Ready at" in result.stdout
    assert "Ctrl-C stops it." in result.stdout
    assert not fleets.running


def test_a_fleet_that_does_not_start_ends_with_its_own_words(run: Run, fleets: FakeFleets, models: Path) -> None:
    fleets.failure = "port 8000 is in use"
    result = run("up")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: port 8000 is in use\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: []", "services: "),
        ("services: [{name: chat, family: oracle, models: []}]", "oracle"),
        (MODELS.format(folder="/x").replace("id:", "idd:"), ".models.0.decoder.id"),
        ("services: [", "is not YAML"),
    ],
)
def test_a_wrong_models_yaml_names_the_file_and_the_field(
    run: Run, fleets: FakeFleets, models: Path, text: str, said: str
) -> None:
    models.write_text(text)
    result = run("up")
    assert result.exit_code == 1
    assert "models.yaml" in result.stderr
    assert said in result.stderr
    assert not fleets.started


def test_a_missing_models_yaml_names_the_option(run: Run) -> None:
    result = run("up")
    assert result.exit_code == 1
    assert "--models" in result.stderr


def test_a_source_that_cannot_be_fetched_stops_before_anything_starts(
    run: Run, fleets: FakeFleets, models: Path
) -> None:
    models.write_text(MODELS.format(folder="/absent/model"))
    result = run("up")
    assert result.exit_code == 1
    assert "/absent/model" in result.stderr
    assert not fleets.started


def test_a_relative_source_is_refused_with_the_absolute_one_to_write(
    run: Run, fleets: FakeFleets, models: Path
) -> None:
    models.write_text(MODELS.format(folder="model"))
    result = run("up")
    assert result.exit_code == 1
    assert f"file://{models.parent / 'model'}" in result.stderr


def test_a_wrong_setting_is_named(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTALIA_PORT", "many")
    result = run("up")
    assert result.exit_code == 1
    assert "port" in result.stderr


def test_down_stops_the_only_fleet(run: Run, fleets: FakeFleets) -> None:
    fleets.running["only"] = state("only", "http://127.0.0.1:1")
    assert "'only' has stopped" in run("down").stdout
    assert not fleets.running


def test_down_stops_the_named_fleet_alone_and_guesses_none(run: Run, fleets: FakeFleets) -> None:
    for name in ("one", "two"):
        fleets.running[name] = state(name, "http://127.0.0.1:1")
    assert run("down").exit_code == 1
    assert run("down", "three").exit_code == 1
    assert set(fleets.running) == {"one", "two"}
    assert run("down", "two").exit_code == 0
    assert set(fleets.running) == {"one"}


def test_down_without_a_fleet_says_so(run: Run) -> None:
    result = run("down")
    assert result.exit_code == 1
    assert "no fleet runs here" in result.stderr


def test_status_tells_a_fleet_that_answers_from_one_that_does_not(
    run: Run, fleets: FakeFleets, server: WireServer
) -> None:
    assert "no fleet runs here" in run("status").stdout
    fleets.running = {"good": state("good", server.url), "dead": state("dead", "http://127.0.0.1:1")}
    result = run("status")
    assert f"good: ready, answers at {server.url}" in result.stdout
    assert "dead: ready, does not answer at http://127.0.0.1:1" in result.stdout


def test_help_names_the_environment_and_every_command_teaches_by_example(run: Run) -> None:
    top = run("--help").stdout
    assert {name for name in ("CASTALIA_URL", "CASTALIA_API_KEY", "CASTALIA_HOME") if name in top} == {
        "CASTALIA_URL",
        "CASTALIA_API_KEY",
        "CASTALIA_HOME",
    }
    for command in (
        "up",
        "apply",
        "down",
        "status",
        "models",
        "top",
        "generate",
        "generate music",
        "chat",
        "pull",
        "manifest",
        "keys new",
    ):
        assert "Example" in run(*command.split(), "--help").stdout, command


def test_help_loads_neither_torch_nor_ray_nor_a_client() -> None:
    code = (
        "import sys; from services.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'ray', 'httpx', 'huggingface_hub', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


UPSTREAM = """services:
  - name: far
    family: upstream
    url: https://far.example/v1
    secret_env: FAR_TEST_KEY
    models: [{id: near, remote_id: m}]
"""


def test_up_names_the_variable_that_a_remote_servers_key_is_missing_from(
    run: Run, fleets: FakeFleets, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.write_text(UPSTREAM)
    monkeypatch.delenv("FAR_TEST_KEY", raising=False)
    result = run("up")
    assert result.exit_code == 1
    assert "service 'far' takes its key from FAR_TEST_KEY, which is not set" in result.stderr
    assert fleets.started == []
    monkeypatch.setenv("FAR_TEST_KEY", "sk-1")
    result = run("up")
    assert result.exit_code == 0
    assert "sk-1" not in result.stdout + result.stderr

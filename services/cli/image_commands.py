"""Owns the command that draws: prompt in, files out, with a bar that follows the previews."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.context import CliError, KeyOption, UrlOption, connect, tools
from services.cli.talk_commands import ModelOption, first_model

if TYPE_CHECKING:
    from services.cli.client import Picture

DRAWING = "Drawing"
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
BAR_PREVIEWS = 8  # what the bar asks for, so that it has something to follow
DEFAULT_PREVIEWS = 3


def image(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to draw; a class-conditional model takes a class's name.")],
    *,
    model: ModelOption = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to; its suffix says whether png, jpeg or webp.")
    ] = Path("image.png"),
    n: Annotated[
        int, typer.Option("--n", "-n", min=1, max=128, help="How many; more than one are numbered: image-1.png ...")
    ] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.", rich_help_panel=DRAWING)] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="How closely to follow the prompt.", rich_help_panel=DRAWING)
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="What guidance leads away from.", rich_help_panel=DRAWING)
    ] = None,
    solver: Annotated[str | None, typer.Option(help="How a step is taken.", rich_help_panel=DRAWING)] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Scale of a GAN's latent, over 0.", rich_help_panel=DRAWING)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Spread of what is drawn, over 0.", rich_help_panel=DRAWING)
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT.", rich_help_panel=DRAWING)] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same image.", rich_help_panel=DRAWING)
    ] = None,
    previews: Annotated[Path | None, typer.Option(help="A folder for the images on the way.", file_okay=False)] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Draw what a prompt describes, and print each file with its seed and content hash."""
    options: dict[str, object] = {
        "steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative,
        "solver": solver,
        "truncation": truncation,
        "temperature": temperature,
        "size": size,
        "seed": seed,
    }
    files = _Files(output, n, previews)
    client = connect(ctx, url, api_key)
    err = tools(ctx).err
    body: dict[str, object] = {key: value for key, value in options.items() if value is not None}
    body |= {"model": model or first_model(client, "image"), "prompt": prompt, "n": n, "output_format": files.format}
    body["partial_images"] = DEFAULT_PREVIEWS if previews else BAR_PREVIEWS if err.is_terminal else 0
    with _Bar(err, n) as bar:
        for picture in client.draw(body):
            bar.show(picture)
            path = files.write(picture)
            if path is not None and not picture.is_preview:
                bar.say(tools(ctx).out, f"{path}  seed {picture.seed}  sha256 {picture.sha256}")


class _Files:
    """Where pictures go. Raises CliError for what cannot be written."""

    def __init__(self, output: Path, n: int, previews: Path | None) -> None:
        if output.suffix.lower() not in FORMATS:
            raise CliError(f"{output} must end in one of {', '.join(FORMATS)}")
        self.format = FORMATS[output.suffix.lower()]
        self._output = output
        self._n = n
        self._previews = previews

    def write(self, picture: Picture) -> Path | None:
        """Its path; None for a preview that nobody keeps."""
        folder = self._previews if picture.is_preview else self._output.parent
        if folder is None:
            return None
        number = f"-{picture.index + 1}" if self._n > 1 else ""
        step = f"-step-{picture.step:03d}" if picture.is_preview else ""
        path = folder / f"{self._output.stem}{number}{step}{self._output.suffix}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.data)
        except OSError as error:
            raise CliError(f"cannot write {path}: {error.strerror}") from error
        return path


class _Bar:
    """Steps taken of all images together. On a terminal alone."""

    def __init__(self, console: Console, n: int) -> None:
        self._n = n
        self._steps: dict[int, int] = {}
        columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("drawing", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, picture: Picture) -> None:
        self._steps[picture.index] = picture.step
        self._progress.update(self._task, total=picture.steps * self._n, completed=sum(self._steps.values()))

    def say(self, out: Console, line: str) -> None:
        out.print(line, markup=False, highlight=False, soft_wrap=True)

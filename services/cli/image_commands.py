"""Owns the command that draws: prompt in, files out, with a bar that follows the previews."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.context import KeyOption, UrlOption, connect, tools
from services.cli.model_choice import ModelOption, first_model
from services.cli.out_files import OUT, OutFiles, OverwriteOption, type_of, write_file
from services.cli.printing import say_made
from services.cli.progress import Bar

if TYPE_CHECKING:
    from services.cli.pictures import Picture

DRAWING = "Drawing"
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
BAR_PREVIEWS = 8  # what the bar asks for, so that it has something to follow
DEFAULT_PREVIEWS = 3


def image(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to draw; a class-conditional model takes a class's name.")],
    *,
    model: ModelOption = None,
    out: Annotated[Path, typer.Option(*OUT, help="Where to; its suffix says whether png, jpeg or webp.")] = Path(
        "image.png"
    ),
    overwrite: OverwriteOption = False,
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
    from services.cli.pictures import draw

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
    body: dict[str, object] = {key: value for key, value in options.items() if value is not None}
    body |= {"prompt": prompt, "n": n, "output_format": type_of(out, FORMATS)}
    files = OutFiles(out, n, overwrite=overwrite)
    client = connect(ctx, url, api_key)
    err = tools(ctx).err
    body["model"] = model or first_model(client, "image")
    body["partial_images"] = DEFAULT_PREVIEWS if previews else BAR_PREVIEWS if err.is_terminal else 0
    began = time.monotonic()
    taken: dict[int, int] = {}  # steps, by image
    with Bar(err, "drawing", "steps") as bar:
        for picture in draw(client, body):
            taken[picture.index] = picture.step
            bar.show(sum(taken.values()), picture.steps * n)
            path = _place(picture, files.path(picture.index), previews)
            if path is not None:
                write_file(path, picture.data)
            if not picture.is_preview:
                seconds = time.monotonic() - began
                more = f"sha256 {picture.sha256}"
                say_made(tools(ctx).out, str(path), body["model"], picture.seed, seconds, more)


def _place(picture: Picture, final: Path, previews: Path | None) -> Path | None:
    """Where a picture goes, beside or in place of what is final; None for a preview that nobody keeps."""
    if not picture.is_preview:
        return final
    return previews / f"{final.stem}-step-{picture.step:03d}{final.suffix}" if previews else None

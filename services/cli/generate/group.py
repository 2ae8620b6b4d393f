"""Owns the group `castalia generate`: text, images, and what the table of products adds once a verb is looked for."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from services.cli.image_commands import image
from services.cli.talk_commands import text

IMAGE_EXAMPLES = (
    '[bold]Examples:[/]\n\ncastalia generate image "red heart" --out heart.png\n\n'
    'castalia generate image "red heart" -n 4 --steps 20 --guidance 3 --seed 1 --out heart.webp --previews ./on-the-way'
)


class GenerateGroup(TyperGroup):
    """What names no verb is a prompt of `text`: `castalia generate "Once upon a time"`.

    The verbs of the table are made from the requests' schemas, which take as long to import as all the rest.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # typer vendors click: the type has no public name
        self._add_products()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._add_products()
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in ctx.help_option_names and self.get_command(ctx, args[0]) is None:
            args = ["text", *args]
        return super().parse_args(ctx, args)

    def _add_products(self) -> None:
        from services.cli.generate.commands import products

        for name, command in typer.main.get_group(products).commands.items():
            self.commands.setdefault(name, command)


generate = typer.Typer(
    cls=GenerateGroup,
    no_args_is_help=True,
    help="Have a model make something: text, if no verb is named.",
    epilog=(
        '[bold]Examples:[/]\n\ncastalia generate "What is the capital of France?"\n\n'
        "castalia generate music --genre jig --out jig.mid\n\ncastalia generate molecule --help"
    ),
)
generate.command(
    epilog=(
        '[bold]Examples:[/]\n\ncastalia generate text "What is the capital of France?"\n\n'
        'castalia generate text --complete --max-tokens 40 --seed 1 "Once upon a time" --out story.txt\n\n'
        'cat letter.txt | castalia generate --system "Summarise in one sentence." -\n\n'
        'castalia generate "Tell me of Paris, as JSON." --schema city.json\n\n'
        'castalia generate "Is Paris in France?" --choice yes --choice no\n\n'
        'castalia generate "What is the weather in Paris?" --tools tools.json --tool-choice required'
    )
)(text)
generate.command(epilog=IMAGE_EXAMPLES)(image)

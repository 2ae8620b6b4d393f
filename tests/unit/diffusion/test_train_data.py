"""From the package's files to pictures: choice, names, colours, and what is held out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from services.families.diffusion.emoji_colours import recolour
from services.families.diffusion.emoji_data import read_data, write_data
from services.families.diffusion.emoji_selection import COLOURED, HELD_OUT, PALETTE, RECOLOURED

_ENTRIES = (
    ("SNAIL", "snail", "animal-bug", "snail"),
    ("ANT", "ant", "animal-bug", "ant"),  # left out of its subcategory
    ("AUBERGINE", "aubergine", "food-vegetable", "eggplant"),
    ("HEAVY BLACK HEART", "heart", "heart", "heart"),
    ("ORANGE HEART", "orange_heart", "heart", "orange_heart"),
    ("GREEN BOOK", "green_book", "book-paper", "green_book"),
    ("CLOSED BOOK", "closed_book", "book-paper", "closed_book"),
    ("THUMBS UP SIGN", "+1", "hand-fingers-closed", "thumbs_up"),
    ("ABACUS", "abacus", "computer", "abacus"),  # of no chosen subcategory
)


def make_package(folder: Path) -> Path:
    files = folder / "img" / "twitter" / "64"
    files.mkdir(parents=True)
    entries: list[dict[str, object]] = []
    for order, (name, short, subcategory, file) in enumerate(_ENTRIES):
        image = Image.new("RGBA", (64, 64))  # a red disc with a grey rim on nothing
        pixels = np.array(image)
        y, x = np.ogrid[:64, :64]
        radius = np.hypot(y - 31.5, x - 31.5)
        pixels[radius < 26] = (120, 120, 120, 255)
        pixels[radius < 20] = (200 - 10 * order, 40, 60, 255)
        Image.fromarray(pixels).save(files / f"{file}.png")
        entries.append(
            {
                "name": name,
                "short_name": short,
                "subcategory": subcategory,
                "image": f"{file}.png",
                "sort_order": len(_ENTRIES) - order,
            }
        )
    (folder / "emoji.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(make_package(tmp_path_factory.mktemp("package")), folder)
    return folder


def test_chosen_emoji_are_there_under_their_cleaned_names(data: Path) -> None:
    names = set(read_data(data).names)
    assert {"snail", "eggplant", "thumbs up", "red heart", "orange heart", "red book", "green book"} <= names
    assert not names & {"ant", "abacus", "aubergine", "closed book"}


def test_pictures_come_in_the_order_of_the_package_on_white_in_half_the_size(data: Path) -> None:
    emoji = read_data(data)
    assert emoji.names[0] == "thumbs up"
    assert emoji.images.shape == (len(emoji.pictures), 3, 32, 32)
    assert (emoji.images[:, :, 0, 0] == 1).all()


def test_recoloured_books_fill_in_the_colours_that_the_package_lacks(data: Path) -> None:
    emoji = read_data(data)
    rows = zip(emoji.pictures, emoji.images, strict=True)
    books = {picture.pair[0]: image for picture, image in rows if picture.pair and picture.pair[1] == "book"}
    assert set(books) == set(PALETTE) - {"blue", "orange"}  # those two are emoji that this package does not have
    for colour in ("yellow", "purple"):
        middle = (books[colour][:, 16, 16] + 1) * 127.5
        assert (middle - torch.tensor(PALETTE[colour])).abs().max() < 6, colour


def test_held_out_pairs_are_apart_from_what_is_trained_on(data: Path) -> None:
    emoji = read_data(data)
    held_out, trained = emoji.part(held_out=True), emoji.part(held_out=False)
    assert set(held_out.names) == {"orange heart", "purple book"}
    assert not set(held_out.names) & set(trained.names)
    assert len(held_out.images) + len(trained.images) == len(emoji.images)


def test_another_name_is_kept_unless_it_is_someone_elses(data: Path) -> None:
    aliases = {picture.name: picture.aliases for picture in read_data(data).pictures}
    assert aliases["thumbs up"] == ("1",)
    assert aliases["eggplant"] == ("aubergine",)
    assert aliases["snail"] == ()  # its short name is its name
    assert aliases["red heart"] == ("heart",)


def test_writing_twice_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    write_data(make_package(tmp_path / "package"), tmp_path / "again")
    for path in data.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_every_held_out_pair_is_made_of_a_colour_and_a_shape_that_are_seen_apart() -> None:
    pairs = set(COLOURED.values()) | {(colour, shape) for shape in RECOLOURED.values() for colour in PALETTE}
    assert pairs >= HELD_OUT
    trained = pairs - HELD_OUT
    assert {colour for colour, _ in HELD_OUT} <= {colour for colour, _ in trained}
    assert {shape for _, shape in HELD_OUT} <= {shape for _, shape in trained}


def test_recolouring_leaves_greys_and_other_hues_as_they_are() -> None:
    pixels = np.full((8, 8, 3), 255, np.uint8)
    pixels[:4] = (221, 46, 68)
    pixels[4] = (90, 90, 90)
    pixels[5] = (60, 130, 60)
    turned = np.asarray(recolour(Image.fromarray(pixels), PALETTE["blue"]))
    assert np.abs(turned[:4].astype(int) - PALETTE["blue"]).max() < 4
    assert np.abs(turned[4:].astype(int) - pixels[4:]).max() <= 3

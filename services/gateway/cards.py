"""Owns the cards of built-in models: files that lie beside their weights. Reads them, and imports nothing there."""

from __future__ import annotations

import base64
from pathlib import Path

from shared.config.base import LocalModel, ModelEntry
from shared.errors import NotFound
from shared.schemas.fleet import CardDocument, CardFile

FAMILIES = Path(__file__).parents[1] / "families"
SCHEME = "builtin://"
CARD = "MODEL_CARD.md"
TYPES = {".png": "image/png", ".csv": "text/csv", ".json": "application/json", ".txt": "text/plain"}
TEXTS = frozenset({".csv", ".json", ".txt"})


def read_card(model: ModelEntry, families: Path = FAMILIES) -> CardDocument:
    """Takes milliseconds: run it on a worker thread. Raises NotFound."""
    source = model.weights if isinstance(model, LocalModel) else ""
    cards = [path for path in families.glob(f"*/weights/*/{CARD}") if source == f"{SCHEME}{path.parent.name}"]
    if not cards:
        raise NotFound(f"Model '{model.id}' has no card here.")
    card, folder = cards[0], cards[0].parent
    held_out = [file for file in folder.glob("held_out.*") if file.suffix in TEXTS]
    return CardDocument(
        model=model.id,
        markdown=card.read_text("utf-8"),
        sheets=[_file(sheet) for sheet in sorted(folder.glob("sheets/*.png"))],
        held_out=_file(held_out[0]) if held_out else None,
    )


def _file(path: Path) -> CardFile:
    return CardFile(name=path.name, media_type=TYPES[path.suffix], b64=base64.b64encode(path.read_bytes()).decode())

"""Owns molecules that a model draws: SMILES, with what a chemistry library makes of each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.schemas.common import ResponseModel, refusal
from shared.schemas.images import Seed
from shared.schemas.items import MAX_ITEMS, ItemList, ItemsCall

MAX_DRAWINGS = 500
MAX_ATTEMPTS = 64
USUAL_ATTEMPTS = 8
# Of a molecule, what a CSV holds.
COLUMNS = ("smiles", "canonical", "valid", "qed", "logp", "weight", "formula", "attempts", "seed")


class MoleculeGenerationRequest(ItemsCall):
    """`n` molecules. `valid_only`: one that is not valid is drawn anew, `attempts` times at most.

    `properties` false leaves out qed, logp, weight and formula, which take most of the time of a large answer.
    `format` csv answers in text/csv, with a header line.
    """

    n: int = Field(default=1, ge=1, le=MAX_ITEMS, description=f"at most {MAX_DRAWINGS} with drawings")
    format: Literal["json", "csv"] = "json"
    scaffold: str = Field(
        default="", max_length=256, description="what every SMILES begins with; it may end in an open ring or branch"
    )
    seed: Seed | None = None
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    valid_only: bool = False
    attempts: int | None = Field(
        default=None, ge=1, le=MAX_ATTEMPTS, description=f"with valid_only; {USUAL_ATTEMPTS} if left out"
    )
    properties: bool = True
    drawings: bool = Field(default=False, description="a picture of each molecule, as SVG")

    @property
    def rows(self) -> int:
        return self.n

    @property
    def wants_table(self) -> bool:
        return self.format == "csv"

    @property
    def most_attempts(self) -> int:
        """Drawings of one molecule, at most."""
        return (self.attempts or USUAL_ATTEMPTS) if self.valid_only else 1

    @model_validator(mode="after")
    def _fields_agree(self) -> MoleculeGenerationRequest:
        if self.stream and self.wants_table:
            raise refusal("format", "format csv is only allowed when stream is false")
        if self.drawings and self.wants_table:
            raise refusal("drawings", "drawings are only allowed when format is json")
        if self.drawings and self.n > MAX_DRAWINGS:
            raise refusal("n", f"n is at most {MAX_DRAWINGS} with drawings")
        if self.attempts is not None and not self.valid_only:
            raise refusal("attempts", "attempts is only allowed when valid_only is true")
        return self


class Molecule(ResponseModel):
    """`valid`: RDKit reads the SMILES, and its atoms have valences that exist; else there is no more to say of it."""

    object: Literal["molecule"] = "molecule"
    index: int
    smiles: str = Field(description="as the model drew it")
    canonical: str | None = Field(default=None, description="the same molecule as RDKit writes it: for comparison")
    valid: bool
    qed: float | None = Field(default=None, description="drug-likeness from 0 to 1 (Bickerton 2012)")
    logp: float | None = Field(default=None, description="octanol-water partition (Wildman and Crippen 1999)")
    weight: float | None = Field(default=None, description="molecular weight, in g/mol")
    formula: str | None = None
    svg: str | None = Field(default=None, description="a picture, where it was asked for")
    attempts: int = Field(description="drawings that it took; a request without valid_only has one")
    seed: int = Field(description="draws this very molecule again: the same request with this seed, and n of 1")


class Molecules(ItemList):
    data: list[Molecule]

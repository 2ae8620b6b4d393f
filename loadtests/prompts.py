"""Owns what simulated people ask: questions of unlike lengths, so that rows of unlike progress share batches."""

from __future__ import annotations

QUESTIONS = (
    "What is the capital of France?",
    "Name three primary colours.",
    "Write a haiku about the sea.",
    "Why is the sky blue? Answer for a child of seven.",
    "Explain in a short paragraph how a bicycle stays upright.",
    "Translate into French: The meeting is moved to Thursday at ten.",
    "Give me a packing list for two days in the mountains in autumn, with a reason for each item.",
    "Summarise in one sentence: "
    + "The ferry leaves the old harbour at six, crosses the strait in two hours and returns at dusk. " * 6,
    "Which of these arguments is the strongest, and why? "
    + "Trains carry more people for the same energy. Cars leave when you do. Bicycles need no fuel at all. " * 12,
)

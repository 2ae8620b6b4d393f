"""Owns text that families share: ids and text, rows that make a token a step, and what clients may ask of them."""

"""Latent ODEs of series with irregular times (Rubanova 2019, arXiv:1907.03907)."""

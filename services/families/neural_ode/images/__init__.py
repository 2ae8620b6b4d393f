"""Continuous normalizing flows of images (FFJORD, arXiv:1810.01367), trained by flow matching (arXiv:2210.02747)."""

"""Normalizing flows (RealNVP, Dinh 2017, arXiv:1605.08803; neural splines, Durkan 2019, arXiv:1906.04032)."""

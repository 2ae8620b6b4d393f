"""Diffusion and flow matching (Ho et al. 2020, arXiv:2006.11239; Lipman et al. 2022, arXiv:2210.02747): images."""

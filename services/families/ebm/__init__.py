"""Energy-based models of images, drawn from by Langevin dynamics (LeCun 2006; Du & Mordatch 2019, arXiv:1903.08689)."""

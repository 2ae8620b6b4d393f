"""Neural ODEs (Chen 2018, arXiv:1806.07366): flows of images with a likelihood, and series in continuous time."""

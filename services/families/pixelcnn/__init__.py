"""Gated PixelCNNs over grids of few values (van den Oord 2016, arXiv:1606.05328; Salimans 2017, arXiv:1701.05517)."""

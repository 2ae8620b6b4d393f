"""Owns encoder-decoders (Vaswani 2017; T5, arXiv:1910.10683; BART, arXiv:1910.13461): a source in, a target out."""

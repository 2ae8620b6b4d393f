"""Owns encoders (BERT, arXiv:1810.04805): texts to vectors (Sentence-BERT, arXiv:1908.10084), and masked tokens."""

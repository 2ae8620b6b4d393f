"""Variational autoencoders (Kingma & Welling 2013, arXiv:1312.6114) of images and of records."""

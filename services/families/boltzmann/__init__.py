"""Boltzmann machines: restricted (Hinton 2002) and deep (Salakhutdinov & Hinton 2009), sampled by block Gibbs."""

"""Owns the family of dilated causal convolutions over sound: WaveNet, sample by sample."""

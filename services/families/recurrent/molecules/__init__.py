"""Molecules as SMILES, drawn by a recurrent net. Nothing here is imported before a model of molecules is loaded."""

"""Owns the family of voices by VITS, from phonemes to sound in one network: those of Piper."""

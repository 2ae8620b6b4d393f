"""Recurrent nets of text: verse, character by character."""

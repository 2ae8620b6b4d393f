"""Owns tunes: dance music of one voice, bar by bar, drawn by a recurrent network. Other kinds see nothing of it."""

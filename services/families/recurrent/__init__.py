"""Recurrent networks (Elman 1990; Hochreiter & Schmidhuber 1997; Cho 2014): text, music, molecules and forecasts."""

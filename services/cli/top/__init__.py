"""`castalia top`: a fleet, live. From text (`scrapes.py`) to figures (`figures.py`) to tables (`view.py`)."""

"""Models whose samplers come from outside this tree."""

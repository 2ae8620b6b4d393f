"""A story GPT, made here from the text up: its data, its tokens, its training, its measuring."""

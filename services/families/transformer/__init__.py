"""Decoder-only transformers (Vaswani 2017, arXiv:1706.03762) from Hugging Face checkpoints: GPT-2, Llama, Qwen2 ..."""

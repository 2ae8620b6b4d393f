"""Low-rank adapters of decoders (LoRA, Hu 2021, arXiv:2106.09685), as peft saves them."""

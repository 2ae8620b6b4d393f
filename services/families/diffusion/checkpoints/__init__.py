"""The kinds of checkpoint that one sampler serves: the embedded model, and diffusers folders by their components."""

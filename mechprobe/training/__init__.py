"""Training of hooked models."""

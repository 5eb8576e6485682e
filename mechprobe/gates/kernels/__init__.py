"""Pieces of the engine that know tensors only: products, norms, activations, gates."""

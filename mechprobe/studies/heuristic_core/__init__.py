"""The heuristic core (Bhaskar, Friedman, Chen 2024): many subnetworks of one classifier."""

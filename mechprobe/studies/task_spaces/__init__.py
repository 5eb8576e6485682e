"""Linguistic task spaces (Weber, Jumelet, Bruni, Hupkes 2024): which phenomena share what."""

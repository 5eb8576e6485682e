"""A study over a grid of settings: its runs' units as jobs of many processes or machines."""

"""Hierarchical filtering (Garnier-Brun et al. 2024): when and where a model rebuilds a tree."""

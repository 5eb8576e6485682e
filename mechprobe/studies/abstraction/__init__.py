"""Abstraction probing (An et al. 2023): does a model reuse concepts, when, and in which heads."""

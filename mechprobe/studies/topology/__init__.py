"""Tree topological probes (Li, Yin and Lin 2023) at every layer and submodule, with controls."""

"""Which tables of a run the numbers of each claim come from, by how the claim begins."""

SOURCES = {
    "Positive control": ("bars", "final"),
    "A vanilla encoder": ("final",),
    "The same holds on uniform": ("final",),
    "Larger distances": ("staircases", "change-points"),
    "On test sets filtered": ("rise-and-fall",),
    "A model trained on data filtered": ("final",),
    "Deeper levels": ("samples-to-level",),
    "Attention maps": ("attention-strongest",),
    "Layer by layer": ("attention-layers",),
    "Layer i supports": ("probes-*",),
    "Probe posteriors": ("reach-*",),
    "One layer a level": ("shapes",),
    "Exact inference fits": ("planted", "bars"),
    "Limiting attention": ("blocks-*",),
    "Attention, causal effect": ("head-agreement-*", "heads-*"),
    "The two heads": ("head-sets-*",),
}

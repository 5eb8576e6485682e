"""Which tables of a run the numbers of each claim come from, by how the claim begins."""

SOURCES = {
    "Positive control": ("procedures", "first-tasks"),
    "The model reuses the concept": ("gains", "procedures", "kind-gains", "borrowed", "sets"),
    "Training memorises first": ("change-points", "memorise-then-abstract"),
    "Generalisation rests on a few heads": ("heads-*-set-*", "closing-top-set-*"),
    "The heads of generalisation": ("head-layers-set-*",),
    "The concept survives mutations": ("mutations", "kinds-of-mutation"),
    "Generic pretraining": ("generic-pretraining",),
}

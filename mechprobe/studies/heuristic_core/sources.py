"""Which tables of a run the numbers of each claim come from, by how the claim begins."""

SOURCES = {
    "Positive control": ("full-models",),
    "At ": ("spread", "subnetworks", "full-models"),
    "The subnetworks at ": ("overlap-sparsity-*",),
    "The full model needs the core": ("necessity-sparsity-*", "core-contrasts-sparsity-*"),
    "The core alone": ("necessity-sparsity-*",),
    "Core heads compare words": ("attention-core-sparsity-*",),
    "Core heads emerge": ("core-overlap", "first-kept"),
    "Generalisation comes from": ("head-edits-best-sparsity-*",),
    "The further heads": ("dependence-sparsity-*",),
    "The effective size": ("emergence",),
}

"""Which tables of a run the numbers of each claim come from, by how the claim begins."""

SOURCES = {
    "Positive control": ("by-stream-*", "against-untrained", "baselines"),
    "Linear probes": ("selectivity",),
    "X_ssp <= X_sp": ("inequality",),
    "X_sp <= X_essp": ("inequality", "labels", "by-stream-*"),
    "The metrics divide": ("by-stream-*",),
    "Ours: X_ssp is smaller": ("against-untrained", "labels"),
    "Ours: single heads": ("heads-uuas",),
    "Regularising": ("finetuning", "finetuned"),
}

"""Which tables of a run the numbers of each claim come from, by how the claim begins."""

SOURCES = {
    "Positive control": ("accuracy",),
    "Task spaces reflect": ("groups", "tests"),
    "Gradients of tasks": ("groups", "development", "tests"),
    "FTGD isolates": ("development", "tests"),
    "FTGD (hinged)": ("kinds-of-tuning",),
    "Without a hinge": ("kinds-of-tuning",),
    "The weights of largest gradient": ("kinds-of-tuning",),
    "They do better than": ("kinds-of-tuning",),
    "The transfer space clusters": ("tests", "clusters"),
    "Larger models": ("accuracy", "groups"),
    "Distributedness grows": ("development", "groups"),
    "Patterns of generalisation": ("neighbours",),
    "The heads that hold": ("heads",),
}

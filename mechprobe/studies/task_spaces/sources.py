"""Which tables of a run the numbers of each claim come from, by how the claim begins."""

SOURCES = {
    "Positive control": ("accuracy",),
    "Task spaces reflect": ("groups", "tests"),
    "Gradients of tasks": ("groups", "development", "tests"),
    "FTGD isolates": ("development", "tests"),
    "FTGD (hinged)": ("kinds-by-task", "kinds-of-tuning"),
    "At the same cost in perplexity": ("kinds-by-task", "kinds-of-tuning"),
    "The weights of largest gradient": ("kinds-by-task", "kinds-of-tuning"),
    "They do better than": ("kinds-by-task", "kinds-of-tuning"),
    "The transfer space clusters": ("tests", "clusters"),
    "Larger models": ("sizes",),
    "Distributedness grows": ("slopes", "development"),
    "Patterns of generalisation": ("likeness",),
    "The heads that hold": ("heads",),
}

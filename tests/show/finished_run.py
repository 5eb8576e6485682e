"""A finished run to report: made by the real run directory, with real figures."""

import pandas as pd
from matplotlib.figure import Figure

from mechprobe.figures import save_figure
from mechprobe.runs import Run

TABLE = pd.DataFrame({
    "head": ["5.1", "5.10", "mlp.3"],
    "out_of_domain": [0.123456, -0.25, float("nan")],
    "sparsity": [0.5, 0.5, 0.7],
    "seed": [0, 1, 2],
    "in_core": [True, False, True],
    "p": [0.00001, 0.0345, 1.0],
})


def content() -> dict:
    """What a study would say, with every kind of part."""
    return {
        "title": "Lines", "question": "Are they straight?",
        "summary": ["Most are.", "See `5.1`."],
        "claims": [
            {"claim": "first claim", "verdict": "held", "numbers": "3 of 4", "paper": "4 of 4",
             "files": ["tables/lines.csv"]},
            {"claim": "second claim", "verdict": "did not hold", "numbers": "0 of 4", "paper": ""},
            {"claim": "third claim", "verdict": "not testable here", "numbers": "", "paper": "x"},
        ],
        "sections": [
            {"title": "Every line", "text": ["All of them."],
             "tables": [{"file": "tables/lines.csv", "caption": "The lines"}],
             "figures": [{"file": "figures/lines.png", "caption": "Lines drawn"}]},
            {"title": "Empty", "text": [], "tables": [], "figures": []},
        ],
        "notes": ["A note."],
        "command": "mechprobe run lines --preset tiny --data-dir /home/someone/data",
    }


def write(folder, told: dict, table: pd.DataFrame = TABLE, **settings) -> None:
    """Fill a run folder as a study does."""
    figure = Figure(figsize=(3.4, 2))
    figure.subplots().plot([0, 1], [0, 1])
    with Run.open(folder, {"study": "lines", "seed": 0, "rates": (0.1, 1e-5), **settings}) as run:
        run.unit("fit", lambda: {"x": 1})
        run.write_table("tables/lines.csv", table)
        save_figure(figure, run.path("figures/lines"))
        run.write_json("report.json", told)

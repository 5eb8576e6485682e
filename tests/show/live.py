"""The explorer's own page in a browser, its questions answered by Python as a notebook would.

Everything is real but the transport: a stand-in for anywidget's model object hands each message to
Python over the browser's debugging pipe instead of over a kernel's socket.
"""

import json
import time

from mechprobe.show.bundle import data_script
from mechprobe.show.explorer.widget import page_module, page_style

READY = (
    "(views => views.length > 0 && views.every(view => view.dataset.state === 'ready'))"
    "([...document.querySelectorAll('.mpx')])"
)

_MODEL = """
const heard = new Set();
window.hear = (answer) => heard.forEach((listen) => listen(answer));
const model = {
  get: () => JSON.parse(document.getElementById("scene").textContent),
  on: (event, listen) => heard.add(listen), off: (event, listen) => heard.delete(listen),
  send: (question) => window.toPython(JSON.stringify(question)),
};
document.querySelectorAll(".cell").forEach((el) => render({ model, el }));
"""


class Live:
    """An explorer open in a browser, in one view or in several of the same widget.

    ``held``, where it is a list, takes the questions instead of Python, until ``reply`` is given
    them.
    """

    def __init__(self, browser, explorer, path, views=1):
        self.browser, self.explorer = browser, explorer
        self.held: list[str] | None = None
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>live</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>body {{ margin: 0 }} {page_style()}</style>"
            + views * '<div class="cell"></div>'
            + data_script("scene", explorer.scene())
            + f'<script type="module">{page_module()}{_MODEL}</script></html>'
        )
        path.write_text(page, encoding="utf-8")
        browser.send("Runtime.addBinding", name="toPython")
        browser.open(path)
        self.settle()

    def reply(self, payload, answer=None):
        """One question of the page answered, by Python or as given."""
        question = json.loads(payload)
        answer = {**(answer or self.explorer.answer(question)), "id": question["id"]}
        self.browser.run(f"hear({json.dumps(answer)})")

    def settle(self, condition=READY):
        """Answer until the page says that it waits for nothing."""
        take = self.reply if self.held is None else self.held.append
        self.browser.wait(condition, on_bound=take)

    def asked(self, *kinds):
        """Wait until just these kinds of questions are held."""
        def found():
            return [json.loads(payload)["kind"] for payload in self.held or ()]

        for _ in range(600):
            self.settle("true")
            if found() == list(kinds):
                return self.held
            time.sleep(0.01)
        raise AssertionError(f"{found()} were asked, not {list(kinds)}")

    def click(self, selector):
        """A click, and all that follows from it."""
        self.browser.click(selector)
        self.settle()

    def text(self, selector):
        """What an element says."""
        return self.browser.run(f"document.querySelector({json.dumps(selector)}).textContent")

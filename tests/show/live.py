"""The explorer's own page in a browser, its questions answered by Python as a notebook would.

Everything is real but the transport: a stand-in for anywidget's model object hands each message to
Python over the browser's debugging pipe instead of over a kernel's socket.
"""

import json

from mechprobe.show.bundle import data_script
from mechprobe.show.explorer.widget import page_module, page_style

READY = "document.querySelector('.mpx')?.dataset.state === 'ready'"

_MODEL = """
const heard = new Set();
window.hear = (answer) => heard.forEach((listen) => listen(answer));
const model = {
  get: () => JSON.parse(document.getElementById("scene").textContent),
  on: (event, listen) => heard.add(listen), off: (event, listen) => heard.delete(listen),
  send: (question) => window.toPython(JSON.stringify(question)),
};
render({ model, el: document.getElementById("cell") });
"""


class Live:
    """An explorer open in a browser."""

    def __init__(self, browser, explorer, path):
        self.browser, self.explorer = browser, explorer
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>live</title>'
            f'<style>body {{ margin: 0 }} {page_style()}</style><div id="cell"></div>'
            + data_script("scene", explorer.scene())
            + f'<script type="module">{page_module()}{_MODEL}</script></html>'
        )
        path.write_text(page, encoding="utf-8")
        browser.send("Runtime.addBinding", name="toPython")
        browser.open(path)
        self.settle()

    def reply(self, payload):
        """One question of the page, answered."""
        question = json.loads(payload)
        answer = {**self.explorer.answer(question), "id": question["id"]}
        self.browser.run(f"hear({json.dumps(answer)})")

    def settle(self, condition=READY):
        """Answer until the page says that it waits for nothing."""
        self.browser.wait(condition, on_bound=self.reply)

    def click(self, selector):
        """A click, and all that follows from it."""
        self.browser.click(selector)
        self.settle()

    def text(self, selector):
        """What an element says."""
        return self.browser.run(f"document.querySelector({json.dumps(selector)}).textContent")

// The page in a notebook: questions go to Python through anywidget's messages.

function throughPython(model) {
  const waiting = new Map();
  const mine = Math.random().toString(36).slice(2); // several views of one widget hear all answers
  let count = 0;
  const hear = (answer) => {
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  };
  model.on("msg:custom", hear);
  const ask = (question) => new Promise((resolve) => {
    const id = `${mine} ${count++}`;
    waiting.set(id, resolve);
    model.send({ ...question, id });
  });
  return { ask, end: () => model.off("msg:custom", hear) };
}

function render({ model, el }) {
  const { ask, end } = throughPython(model);
  const root = document.createElement("div");
  el.append(root);
  startExplorer(root, model.get("scene"), ask);
  return end;
}

export default { render };

// What stands over the sets: undo, compare, colour, checkpoint; the example, and a text to edit.

function button(text, act, more = {}) {
  return node("button", { type: "button", on: { click: act }, ...more }, text);
}

function colourChooser(scene, choose) {
  const names = {
    effect: "effect of each site", ...(scene.nets ? { kept: "kept by subnetworks" } : {}),
    changed: "change now",
  };
  return node("select", { "aria-label": "colour by", on: { change: (event) => choose(event.target.value) } },
    ...Object.entries(names).map(([value, name]) => node("option", { value }, name)));
}

// A slider over the checkpoints; go(number) when it is let go. Returns element and mark(number).
function checkpointSlider(names, go) {
  const output = node("output");
  const slider = node("input", {
    type: "range", min: "0", max: String(names.length - 1), "aria-label": "training checkpoint",
    on: {
      input: (event) => say(Number(event.target.value)),
      change: (event) => go(Number(event.target.value)),
    },
  });
  function say(index) {
    output.textContent = names[index];
    slider.setAttribute("aria-valuetext", names[index]);
  }
  return {
    element: node("label", { class: "mpx-slider" }, "Checkpoint ", slider, output),
    mark: (index) => { slider.value = String(index); say(index); },
  };
}

// want(change of the state), colour(view). Returns element and mark(state wanted).
function makeTools(scene, want, colour) {
  const undo = button("Undo", () => want(undoing), { class: "mpx-undo" });
  const redo = button("Redo", () => want(redoing));
  const compare = button("Compare two sets", () => want((state) => ({ ...state, comparing: !state.comparing })));
  const slider = scene.checkpoints.length > 1
    ? checkpointSlider(scene.checkpoints, (checkpoint) => want((state) => ({ ...state, checkpoint }))) : null;
  function mark(state) {
    undo.disabled = !state.past.length;
    redo.disabled = !state.future.length;
    compare.setAttribute("aria-pressed", String(state.comparing));
    slider?.mark(state.checkpoint);
  }
  const element = node("div", { class: "mpx-row" }, undo, redo, compare,
    node("label", {}, "Colour by ", colourChooser(scene, colour)), slider?.element ?? "");
  return { element, mark };
}

// A field a text, and what reads them; read([text] or [text, text]).
function textForm(labels, read) {
  const fields = labels.map((label) => node("input", { type: "text", dir: "auto", "aria-label": label, placeholder: label }));
  const submit = (event) => {
    event.preventDefault();
    const texts = fields.map((field) => field.value);
    read(texts[1] ? texts : [texts[0]]);
  };
  return node("form", { class: "mpx-row", on: { submit } }, ...fields,
    node("button", { type: "submit" }, "Read this text"));
}

function unknownWords({ unknown, unknown_token }) {
  if (!unknown?.length) return [];
  const words = unknown.flatMap((word, i) => [i ? ", " : "", node("bdi", {}, `“${word}”`)]);
  return [node("p", { class: "mpx-warning", role: "alert" },
    "The model does not know ", ...words, `: it reads ${unknown_token} instead, so the outputs below are not about what you wrote.`)];
}

// The example and its tokens. Returns element, mark(state wanted) and show(reading, state shown).
function makeReader(scene, want, own) {
  const most = scene.n_shown ?? scene.n;
  const read = (reads) => want((state) => ({ ...state, reads }));
  const go = (to) => read(Math.min(most, Math.max(1, to || 1)) - 1);
  const which = node("input", {
    type: "number", min: "1", max: String(most), "aria-label": `example, 1 to ${most}`,
    on: { change: (event) => go(Number(event.target.value)) },
  });
  const whose = node("span");
  const tokens = node("div");
  const line = (words) => node("p", { class: "mpx-tokens" }, ...words.map((word) => node("bdi", {}, shownToken(word))));
  const element = node("div", { class: "mpx-reader" },
    node("div", { class: "mpx-row" }, node("label", {}, "Example ", which), ` of ${most}`,
      button("◀", () => go(Number(which.value) - 1), { "aria-label": "previous example" }),
      button("▶", () => go(Number(which.value) + 1), { "aria-label": "next example" }), whose),
    own && scene.inputs.length ? textForm(scene.inputs, read) : "", tokens);

  function mark({ reads }) {
    which.value = Array.isArray(reads) ? "" : String(reads + 1);
  }
  function show({ words, decoder_words, ...reading }, { reads }) {
    whose.textContent = Array.isArray(reads) ? "Below: your own text; the metric is still over the examples." : "";
    tokens.replaceChildren(line(words), decoder_words.length ? line(decoder_words) : "", ...unknownWords(reading));
  }
  return { element, mark, show };
}

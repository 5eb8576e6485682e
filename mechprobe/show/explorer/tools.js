// The tools over the sets: undo, redo, compare, colour by, checkpoint.

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

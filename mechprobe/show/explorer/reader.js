// The example on the page, and a text of the user's own in its place.

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

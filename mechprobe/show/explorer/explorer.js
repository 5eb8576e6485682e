// The circuit explorer: what is closed, what was asked, what is shown. Asks through ask(question),
// a promise of the answer; knows neither Python nor anywidget.

const LOOK_AFTER = 90; // milliseconds on a site before its attention is asked for

function startExplorer(root, firstScene, ask, offline = false) {
  let scene = firstScene;
  let reads = 0; // number of an example, or [text] or [text, text]
  let view = "effect";
  let comparing = false;
  let looked = null; // {side, site}
  let picked = null; // the token of the attention picture
  const metric = () => scene.metric.replaceAll("_", " ");
  let lookTimer = 0;
  let waiting = 0;
  const past = [];
  const future = [];
  const sides = [makeSide(0), makeSide(1)];

  // --- the state of a side -----------------------------------------------------------------
  function makeSide(index) {
    return { index, closed: new Set(), answer: null, asking: false, again: false, parts: null };
  }

  function names(closed) {
    return [...closed].sort((a, b) => a - b).map((i) => scene.sites[i]);
  }

  function change(side, closed, remember = true) {
    if (remember) {
      past.push([side.index, side.closed]);
      future.length = 0;
    }
    side.closed = closed;
    paint(side);
    refresh(side);
  }

  function toggle(side, i) {
    const closed = new Set(side.closed);
    if (!closed.delete(i)) closed.add(i);
    change(side, closed);
  }

  function step(from, to) {
    const last = from.pop();
    if (!last) return;
    const side = sides[last[0]];
    to.push([side.index, side.closed]);
    if (side.index === 1 && !comparing) compare(true);
    change(side, last[1], false);
  }

  function compare(on) {
    comparing = on;
    root.classList.toggle("mpx-two", on);
    tools.compare.setAttribute("aria-pressed", String(on));
    sides[1].parts.element.hidden = !on;
    sides[0].parts.title.textContent = on ? "Set A" : "Set";
    if (on) refresh(sides[1]);
    else difference.textContent = "";
  }

  // --- questions ---------------------------------------------------------------------------
  async function asking(question) {
    waiting += 1;
    root.dataset.state = "busy";
    try {
      const answer = await ask(question);
      if (answer.error) say(answer.error, true);
      return answer;
    } catch (error) {
      say(String(error?.message ?? error), true);
      return { error: String(error) };
    } finally {
      waiting -= 1;
      if (!waiting) root.dataset.state = "ready";
    }
  }

  // One question a side at a time: clicks faster than a slow model answers skip to the last.
  async function refresh(side) {
    side.again = true;
    if (side.asking) return;
    side.asking = true;
    let answer = null;
    let began = 0;
    while (side.again) {
      side.again = false;
      began = performance.now();
      answer = await asking({ kind: "set", side: side.index, closed: names(side.closed), reads });
    }
    side.asking = false;
    if (answer.error) return;
    side.answer = answer;
    paint(side);
    const took = Math.round(performance.now() - began);
    root.dataset.ms = String(took);
    if (!answer.unmeasured) say(offline ? "" : `Answered in ${took} ms.`);
    if (looked?.side === side) showAttention();
    if (comparing) showDifference();
  }

  async function showDifference() {
    const [a, b] = sides;
    const answer = await asking({ kind: "compare", first: names(a.closed), second: names(b.closed) });
    if (answer.error || !comparing) return;
    difference.textContent = answer.difference
      ? `B minus A: ${metric()} ${estimate(answer.difference)}`
      : "B minus A: not measured in this saved page";
  }

  function look(side, i) {
    looked = { side, site: i };
    clearTimeout(lookTimer);
    lookTimer = setTimeout(showAttention, LOOK_AFTER);
  }

  async function showAttention() {
    if (!looked) return;
    const { side, site } = looked;
    const name = scene.sites[site];
    attention.title.textContent = `${name.includes("mlp") ? name : `Head ${name}`}${comparing ? ` in set ${"AB"[side.index]}` : ""}`;
    attention.facts.textContent = siteLabel(scene, site, side.closed.has(site), side.answer?.changed);
    if (name.includes("mlp")) {
      attention.mount.replaceChildren(node("p", {}, "An MLP layer looks at no other token."));
      return;
    }
    const answer = await asking({ kind: "attention", site: name, closed: names(side.closed), reads });
    if (answer.error || looked.side !== side || looked.site !== site) return;
    AttentionRows(attention.mount, {
      names: [name], weights: [answer.weights], rows: answer.rows, columns: answer.columns,
      rowTitle: "Tokens that attend", columnTitle: "Tokens attended to",
      picked, onPick: (token) => { picked = token; },
    });
    if (answer.open && side.closed.size) attention.mount.prepend(node("p", { class: "mpx-note" }, answer.open));
  }

  async function read(next) {
    reads = next;
    const answer = await asking({ kind: "reads", reads });
    if (answer.error) return false;
    showTokens(answer);
    for (const side of sides) if (side.index === 0 || comparing) refresh(side);
    return true;
  }

  async function checkpoint(index) {
    const answer = await asking({ kind: "checkpoint", index });
    if (answer.error) return;
    scene = answer.scene;
    tools.checkpointName.textContent = scene.checkpoints[scene.checkpoint];
    for (const side of sides) {
      side.parts.grids.replaceWith((side.grids = drawGrids(scene, (i) => toggle(side, i), (i) => look(side, i))).element);
      side.parts.grids = side.grids.element;
      side.answer = null;
      paint(side);
    }
    legend();
    await read(reads);
  }

  // --- what is shown -----------------------------------------------------------------------
  function say(text, wrong = false) {
    status.textContent = text;
    status.classList.toggle("mpx-wrong", wrong);
  }

  function estimate([value, low, high]) {
    return low === high ? number(value) : `${number(value)} [${number(low)}, ${number(high)}]`;
  }

  function largest() {
    return Math.max(...scene.effects.filter(Boolean).map((effect) => Math.abs(effect[0])), 1e-12);
  }

  function paint(side) {
    const { answer, closed, parts } = side;
    const changed = answer && !answer.unmeasured ? answer.changed : null;
    side.grids.update(closed, changed, view, largest());
    tools.undo.disabled = !past.length;
    tools.redo.disabled = !future.length;
    parts.count.textContent = closed.size ? `${closed.size} of ${scene.sites.length} closed` : "everything open";
    parts.python.value = `closed = [${names(closed).map((name) => `"${name}"`).join(", ")}]`;
    const chosen = Object.keys(scene.sets).find((name) => sameSet(name, closed));
    parts.sets.value = closed.size === 0 ? "open" : chosen ? `set ${chosen}` : "own";
    paintNumbers(side);
  }

  function paintNumbers({ answer, parts, closed }) {
    if (!answer) return;
    if (answer.unmeasured) {
      const sum = [...closed].reduce((total, i) => total - (scene.effects[i]?.[0] ?? 0), 0);
      parts.metric.textContent = "Not measured in this saved page";
      parts.change.textContent = `Sum of the single effects (not a measurement): ${signed(sum)}`;
      parts.outputs.replaceChildren();
      say("This saved page holds single sites and its saved sets; open it in a notebook for others.");
      return;
    }
    parts.metric.textContent = `${metric()} ${estimate(answer.metric)}`;
    parts.change.textContent = closed.size
      ? `change ${estimate(answer.change)} from ${number(scene.full[0])}, ${scene.n} examples`
      : `untouched, ${scene.n} examples`;
    parts.outputs.replaceChildren(...answer.outputs.map(outputRow));
  }

  function outputRow({ name, before, after, right }) {
    const said = `${name}${right ? " (right)" : ""}: before ${(100 * before).toFixed(1)} %, now ${(100 * after).toFixed(1)} %`;
    const bar = (share, kind) => node("span", { class: `mpx-track ${kind}` }, node("i", { style: `width:${100 * share}%` }));
    return node("tr", { title: said },
      node("th", { scope: "row" }, node("bdi", {}, shownToken(name)), right ? " ✓" : ""),
      node("td", {}, bar(before, "mpx-before"), bar(after, "mpx-after")),
      node("td", { class: "mpx-figures" }, `${(100 * before).toFixed(1)} → ${(100 * after).toFixed(1)} %`));
  }

  function showTokens({ words, decoder_words }) {
    const line = (tokens) => node("p", { class: "mpx-tokens" }, ...tokens.map((token) => node("bdi", {}, shownToken(token))));
    tokens.replaceChildren(line(words), decoder_words.length ? line(decoder_words) : "");
  }

  function legend() {
    const size = largest();
    const words = {
      effect: `Colour: what closing the site alone takes from the ${metric()} (blue: it helps, up to ${number(size)}; orange: it hurts)`,
      kept: "Colour: share of the subnetworks that keep the site",
      changed: "Colour: how far the site's own output has moved from the untouched model's",
    }[view];
    const frames = scene.nets ? " Thick frame: kept by every subnetwork; dashed: by some." : "";
    tools.legend.textContent = `${words}. Orange bar: how far the site has moved now.${frames}`;
  }

  function sameSet(name, closed) {
    const kept = new Set(scene.sets[name]);
    return scene.sites.every((site, i) => kept.has(site) !== closed.has(i));
  }

  function choose(side, value) {
    if (value === "open") change(side, new Set());
    if (!value.startsWith("set ")) return;
    const kept = new Set(scene.sets[value.slice(4)]);
    change(side, new Set(scene.sites.flatMap((site, i) => (kept.has(site) ? [] : [i]))));
  }

  async function copy(side) {
    const field = side.parts.python;
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      field.select(); // no clipboard here: the old way
      document.execCommand("copy");
    }
    say("Copied as Python.");
  }

  // --- the page ----------------------------------------------------------------------------
  const button = (text, act, more = {}) => node("button", { type: "button", on: { click: act }, ...more }, text);
  const status = node("p", { class: "mpx-status", role: "status" });
  const difference = node("p", { class: "mpx-difference", "aria-live": "polite" });
  const tokens = node("div");
  const attention = {
    title: node("h3", {}, "A site"), facts: node("p", { class: "mpx-note" }),
    mount: node("div", {}, node("p", { class: "mpx-note" }, "Point at a head, or move to one with the arrow keys, to see where it looks.")),
  };
  const tools = {
    legend: node("p", { class: "mpx-note" }),
    undo: button("Undo", () => step(past, future), { class: "mpx-undo" }),
    redo: button("Redo", () => step(future, past)),
    compare: button("Compare two sets", () => compare(!comparing), { "aria-pressed": "false" }),
    checkpointName: node("output", {}, scene.checkpoints[scene.checkpoint]),
  };

  function sidePart(side) {
    side.grids = drawGrids(scene, (i) => toggle(side, i), (i) => look(side, i));
    const parts = {
      title: node("h3", {}, side.index ? "Set B" : "Set"),
      metric: node("p", { class: "mpx-metric", "aria-live": "polite" }, "…"),
      change: node("p", { class: "mpx-note" }), count: node("span", { class: "mpx-count" }),
      outputs: node("tbody"), grids: side.grids.element,
      python: node("input", { readonly: "", "aria-label": "the closed sites as Python", size: "10" }),
      sets: node("select", { "aria-label": "start from a set", on: { change: (event) => choose(side, event.target.value) } },
        node("option", { value: "open" }, "everything open"),
        ...Object.keys(scene.sets).map((name) => node("option", { value: `set ${name}` }, name)),
        node("option", { value: "own" }, "a set of your own")),
    };
    parts.element = node("section", { class: "mpx-side", "aria-label": side.index ? "set B" : "set A" },
      node("div", { class: "mpx-row" }, parts.title, parts.sets, parts.count),
      parts.metric, parts.change, parts.grids,
      node("table", { class: "mpx-outputs" }, node("caption", {}, "What the model gives this example: untouched → now"), parts.outputs),
      node("div", { class: "mpx-row" }, parts.python, button("Copy as Python", () => copy(side))));
    side.parts = parts;
    return parts.element;
  }

  function reader() {
    const shown = scene.n_shown ?? scene.n;
    const which = node("input", { type: "number", min: "1", max: String(shown), value: "1", "aria-label": `example, 1 to ${shown}` });
    const go = (to) => {
      const next = Math.min(shown, Math.max(1, to || 1));
      which.value = String(next);
      read(next - 1);
    };
    which.addEventListener("change", () => go(Number(which.value)));
    const examples = node("div", { class: "mpx-row" }, node("label", {}, "Example ", which), ` of ${shown}`,
      button("◀", () => go(Number(which.value) - 1), { "aria-label": "previous example" }),
      button("▶", () => go(Number(which.value) + 1), { "aria-label": "next example" }));
    if (offline || !scene.inputs.length) return [examples, tokens];
    const fields = scene.inputs.map((label) => node("input", { type: "text", dir: "auto", "aria-label": label, placeholder: label }));
    const own = node("form", {
      class: "mpx-row",
      on: {
        submit: (event) => {
          event.preventDefault();
          const texts = fields.map((field) => field.value);
          read(texts[1] ? texts : [texts[0]]);
        },
      },
    }, ...fields, node("button", { type: "submit" }, "Read this text"));
    return [examples, own, tokens];
  }

  function toolbar() {
    const colour = node("select", {
      "aria-label": "colour by",
      on: { change: (event) => { view = event.target.value; legend(); sides.forEach(paint); } },
    }, node("option", { value: "effect" }, "effect of closing it alone"),
    scene.nets ? node("option", { value: "kept" }, "kept by subnetworks") : "",
    node("option", { value: "changed" }, "change now"));
    const parts = [tools.undo, tools.redo, tools.compare, node("label", {}, "Colour by ", colour)];
    if (scene.checkpoints.length > 1) {
      const slider = node("input", {
        type: "range", min: "0", max: String(scene.checkpoints.length - 1), value: String(scene.checkpoint),
        "aria-label": "training checkpoint",
        on: {
          input: (event) => {
            tools.checkpointName.textContent = scene.checkpoints[event.target.value];
            event.target.setAttribute("aria-valuetext", scene.checkpoints[event.target.value]);
          },
          change: (event) => checkpoint(Number(event.target.value)),
        },
      });
      parts.push(node("label", { class: "mpx-slider" }, "Checkpoint ", slider, tools.checkpointName));
    }
    return node("div", { class: "mpx-row" }, ...parts);
  }

  function onKey(event) {
    const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName) && !event.target.readOnly;
    if (typing || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    if (event.shiftKey) step(future, past);
    else step(past, future);
  }

  root.className = "mpx";
  root.addEventListener("keydown", onKey);
  root.replaceChildren(
    node("h2", {}, `${scene.task}: ${metric()}, ${scene.baseline.replace("_", " ")} baseline`),
    toolbar(), tools.legend, node("div", { class: "mpx-reader" }, ...reader()),
    difference, status,
    node("div", { class: "mpx-sides" }, ...sides.map(sidePart),
      node("section", { class: "mpx-attention", "aria-label": "the site looked at" }, attention.title, attention.facts, attention.mount)),
  );
  sides[1].parts.element.hidden = true;
  legend();
  sides.forEach(paint);
  read(0);
}

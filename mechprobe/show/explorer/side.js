// One set of closed sites: its grids, its numbers, and what the model gives the example.

function outputRow({ name, before, after, right }) {
  const said = `${name}${right ? " (right)" : ""}: before ${(100 * before).toFixed(1)} %, now ${(100 * after).toFixed(1)} %`;
  const bar = (share, kind) => node("span", { class: `mpx-track ${kind}` }, node("i", { style: `width:${100 * share}%` }));
  return node("tr", { title: said },
    node("th", { scope: "row" }, node("bdi", {}, shownToken(name)), right ? " ✓" : ""),
    node("td", {}, bar(before, "mpx-before"), bar(after, "mpx-after")),
    node("td", { class: "mpx-figures" }, `${(100 * before).toFixed(1)} → ${(100 * after).toFixed(1)} %`));
}

// What stands over the grids: [the metric, how it changed], in words.
function told(answer, closed, scene) {
  if (answer.unmeasured) {
    const sum = [...closed].reduce((total, i) => total - (scene.effects[i]?.[0] ?? 0), 0);
    return ["Not measured in this saved page",
      scene.scored ? "" : `Sum of the single effects (not a measurement): ${signed(sum)}`];
  }
  const where = scene.checkpoints.length > 1 ? `, checkpoint “${scene.checkpoints[scene.checkpoint]}”` : "";
  return [`${spaced(scene.metric)} ${estimate(answer.metric)}`,
    (closed.size ? `change ${estimate(answer.change)} from ${number(scene.full[0])}` : "untouched") +
    `, ${scene.n} examples${where}`];
}

// A select of the sets to start from; choose(Set of sites to close).
function setChooser(scene, choose) {
  const act = (value) => {
    if (value === "open") choose(new Set());
    if (value.startsWith("set ")) choose(closedBut(scene, scene.sets[value.slice(4)]));
  };
  return node("select", { "aria-label": "start from a set", on: { change: (event) => act(event.target.value) } },
    node("option", { value: "open" }, "everything open"),
    ...Object.keys(scene.sets).map((name) => node("option", { value: `set ${name}` }, name)),
    node("option", { value: "own" }, "a set of your own"));
}

async function copyField(field) {
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.select(); // no clipboard here: the old way
    document.execCommand("copy");
  }
}

// on.toggle(site), on.close(Set), on.look(site), on.copied(). Returns element, show(answer, shown)
// with shown as drawGrids takes it, and mark(Set wanted, Set shown).
function makeSide(index, scene, on) {
  const title = node("h3", {}, "Set A");
  const count = node("span", { class: "mpx-count" });
  const metric = node("p", { class: "mpx-metric", "aria-live": "polite" }, "…");
  const change = node("p", { class: "mpx-note" });
  const outputs = node("tbody");
  const python = node("input", { readonly: "", "aria-label": "the closed sites as Python", size: "10" });
  const sets = setChooser(scene, on.close);
  const grids = drawGrids(scene, on.toggle, on.look);
  const copy = button("Copy as Python", () => copyField(python).then(on.copied));
  const element = node("section", { class: "mpx-side", "aria-label": `set ${"AB"[index]}`, hidden: index ? "" : null },
    node("div", { class: "mpx-row" }, title, sets, count), metric, change, grids.element,
    node("table", { class: "mpx-outputs" }, node("caption", {}, "What the model gives this example: untouched → now"), outputs),
    node("div", { class: "mpx-row" }, python, copy));

  function show(answer, { comparing, ...shown }) {
    const { scene: now, closed } = shown;
    title.textContent = comparing ? `Set ${"AB"[index]}` : "Set";
    grids.show({ ...shown, changed: answer.unmeasured ? null : answer.changed });
    [metric.textContent, change.textContent] = told(answer, closed, now);
    outputs.replaceChildren(...(answer.outputs ?? []).map(outputRow));
    count.textContent = closed.size ? `${closed.size} of ${now.sites.length} closed` : "everything open";
    python.value = `closed = [${sitesOf(now, closed).map((name) => `"${name}"`).join(", ")}]`;
  }

  function mark(wanted, shown) {
    const name = nameOfSet(scene, wanted);
    sets.value = wanted.size === 0 ? "open" : name ? `set ${name}` : "own";
    grids.mark(new Set([...wanted, ...shown].filter((i) => wanted.has(i) !== shown.has(i))));
  }

  return { element, show, mark };
}

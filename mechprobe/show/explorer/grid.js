// Grids of heads and MLP layers: one button a site, reachable by arrow keys.

const BLUE = { light: [33, 102, 172], dark: [124, 184, 245] };
const ORANGE = { light: [179, 88, 6], dark: [255, 168, 96] };

// How a site is coloured and what its second line says, for each choice of "colour by".
const VIEWS = {
  effect: ({ scene, largest }, i) => {
    const effect = scene.effects[i];
    if (!effect) return { ...mixed(BLUE, 0), text: "–" };
    return { ...mixed(effect[0] >= 0 ? BLUE : ORANGE, Math.abs(effect[0]) / largest), text: signed(effect[0]) };
  },
  kept: ({ scene }, i) => {
    const share = scene.nets ? scene.counts[i] / scene.nets : 0;
    return { ...mixed(BLUE, share), text: `${scene.counts[i]}/${scene.nets}` };
  },
  changed: ({ changed }, i) => {
    const share = changed?.[i] ?? 0;
    return { ...mixed(ORANGE, share), text: share === 0 ? "0%" : share < 0.01 ? "<1%" : percent(share) };
  },
};

function spaced(name) {
  return name.replaceAll("_", " ");
}

// What a site's effect is an effect of: of closing it alone, or of the scores that were given.
function effectName({ scored }) {
  return scored ? `${scored.method} on ${spaced(scored.metric)}, baseline ${spaced(scored.baseline)}` : "closing it alone takes";
}

function siteTitle(name) {
  return name.includes("mlp") ? name.replace("mlp.", "MLP of layer ") : `head ${name}`;
}

function siteFacts(scene, i, closed, changed) {
  const effect = scene.effects[i];
  const parts = [closed ? "closed" : "open"]; // also what aria-pressed says, for those who hover
  if (effect) parts.push(`${effectName(scene)}${scene.scored ? ":" : ""} ${number(effect[0])}, 95 % interval ${number(effect[1])} to ${number(effect[2])}`);
  if (scene.nets) parts.push(`kept by ${scene.counts[i]} of ${scene.nets} subnetworks`);
  if (!closed && changed?.[i]) parts.push(`changed by ${percent(changed[i])} now`);
  return parts.join("; ");
}

function paintSite({ button, value, bar }, i, shown) {
  const { scene, closed, changed, view } = shown;
  const shut = closed.has(i);
  const { background, ink, text } = VIEWS[view](shown, i);
  button.style.background = shut ? "" : background;
  button.style.color = shut ? "" : ink;
  value.textContent = shut ? "closed" : text;
  const moved = shut ? 0 : changed?.[i] ?? 0;
  bar.hidden = !moved;
  bar.style.width = percent(Math.min(1, moved));
  const count = scene.counts[i];
  button.className = "mpx-site" + (shut ? " mpx-closed" : "") +
    (!scene.nets || !count ? "" : count === scene.nets ? " mpx-all" : " mpx-some");
  button.setAttribute("aria-pressed", String(shut));
  button.title = `${siteTitle(scene.sites[i])}; ${siteFacts(scene, i, shut, changed)}`;
  button.setAttribute("aria-label", button.title);
}

// The arrow keys go from site to site; tab reaches one site of each grid.
function walk(event, place, row, column, buttonOf) {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = place[row + step[0]]?.[column + step[1]];
  if (next === undefined) return;
  for (const i of place.flat()) buttonOf(i).tabIndex = -1;
  buttonOf(next).tabIndex = 0;
  buttonOf(next).focus();
}

// Draws the grids of one set; act(i) toggles, look(i) is called for the site under mouse or focus.
// Returns show({scene, closed: Set of site numbers, changed: [site] or null, view, largest}) and
// mark(Set of the sites whose change is being measured).
function drawGrids(scene, act, look) {
  const cells = new Map();
  const buttonOf = (i) => cells.get(i).button;
  const whole = node("div", { class: "mpx-grids" });

  function drawSite(i, name, onKey) {
    const value = node("small");
    const bar = node("i", { class: "mpx-bar", "aria-hidden": "true" });
    const button = node("button", {
      type: "button", class: "mpx-site", "data-site": scene.sites[i], tabindex: "-1",
      on: { click: () => act(i), mouseenter: () => look(i), focus: () => look(i), keydown: onKey },
    }, node("b", {}, name), value, bar);
    cells.set(i, { button, value, bar });
    return button;
  }

  for (const { title, rows } of scene.layout) {
    const heads = rows[0].heads.map((_, c) => String(c));
    const columns = rows[0].mlp === null ? heads : [...heads, "MLP"];
    const place = rows.map((row) => (row.mlp === null ? row.heads : [...row.heads, row.mlp]));
    const body = rows.map(({ layer, mlp }, row) =>
      node("tr", {}, node("th", { scope: "row" }, String(layer)),
        ...place[row].map((i, column) => node("td", { class: i === mlp ? "mpx-mlp" : null },
          drawSite(i, i === mlp ? "MLP" : scene.sites[i].split(" ").pop(),
            (event) => walk(event, place, row, column, buttonOf))))));
    buttonOf(place[0][0]).tabIndex = 0;
    whole.append(node("div", { class: "mpx-scroll" }, node("table", { class: "mpx-grid" },
      node("caption", {}, title),
      node("thead", {}, node("tr", {}, node("td"), ...columns.map((name) => node("th", { scope: "col" }, name)))),
      node("tbody", {}, ...body))));
  }
  return {
    element: whole,
    show: (shown) => cells.forEach((cell, i) => paintSite(cell, i, shown)),
    mark: (sites) => cells.forEach(({ button }, i) => button.classList.toggle("mpx-waits", sites.has(i))),
  };
}

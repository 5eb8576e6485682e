// Grids of heads and MLP layers: one button a site, reachable by arrow keys.

const BLUE = [33, 102, 172];
const ORANGE = [179, 88, 6];

function percent(share) {
  return `${Math.round(100 * share)}%`;
}

function signed(value) {
  const size = Math.abs(value);
  if (size < 0.0005) return size ? "≈0" : "0";
  const digits = size.toFixed(size >= 100 ? 0 : size >= 0.0995 ? 2 : 3);
  return (value < 0 ? "−" : "+") + digits;
}

function number(value) {
  const size = Math.abs(value);
  if (!size) return "0";
  const digits = size >= 1000 ? size.toFixed(0) : size >= 0.01 ? size.toFixed(3) : String(Number(size.toPrecision(2)));
  return (value < 0 ? "−" : "") + digits;
}

// How a site is coloured and what its second line says, for each choice of "colour by".
const VIEWS = {
  effect: (scene, i, largest) => {
    const effect = scene.effects[i];
    if (!effect) return { ...mixed(BLUE, 0), text: "–" };
    return { ...mixed(effect[0] >= 0 ? BLUE : ORANGE, Math.abs(effect[0]) / largest), text: signed(effect[0]) };
  },
  kept: (scene, i) => {
    const share = scene.nets ? scene.counts[i] / scene.nets : 0;
    return { ...mixed(BLUE, share), text: `${scene.counts[i]}/${scene.nets}` };
  },
  changed: (scene, i, largest, changed) => {
    const share = changed?.[i] ?? 0;
    return { ...mixed(ORANGE, share), text: share === 0 ? "0%" : share < 0.01 ? "<1%" : percent(share) };
  },
};

function siteLabel(scene, i, closed, changed) {
  const effect = scene.effects[i];
  const name = scene.sites[i];
  const parts = [
    name.includes("mlp") ? name.replace("mlp.", "MLP of layer ") : `head ${name}`,
    closed ? "closed" : "open",
  ]; // "closed" is also what aria-pressed says, for those who hover
  if (effect) parts.push(`closing it alone takes ${number(effect[0])}, 95 % interval ${number(effect[1])} to ${number(effect[2])}`);
  if (scene.nets) parts.push(`kept by ${scene.counts[i]} of ${scene.nets} subnetworks`);
  if (!closed && changed?.[i]) parts.push(`changed by ${percent(changed[i])} now`);
  return parts.join("; ");
}

// Draws the grids of one side; act(i) toggles, look(i) is called for the site under mouse or focus.
// Returns update(closed: Set of indices, changed: [site] or null, view, largest).
function drawGrids(scene, act, look) {
  const cells = new Map();
  const whole = node("div", { class: "mpx-grids" });
  for (const { title, rows } of scene.layout) {
    const width = rows[0].heads.length + (rows[0].mlp === null ? 0 : 1);
    const place = []; // [row][column] -> site number, for the arrow keys
    const body = rows.map(({ layer, heads, mlp }) => {
      const line = mlp === null ? heads : [...heads, mlp];
      place.push(line);
      return node("tr", {}, node("th", { scope: "row" }, String(layer)),
        ...line.map((i, column) => {
          const value = node("small");
          const bar = node("i", { class: "mpx-bar", "aria-hidden": "true" });
          const button = node("button", {
            type: "button", class: "mpx-site", "data-site": scene.sites[i], tabindex: "-1",
            on: {
              click: () => act(i), mouseenter: () => look(i), focus: () => look(i),
              keydown: (event) => walk(event, layer, column),
            },
          }, node("b", {}, i === mlp ? "MLP" : scene.sites[i].split(" ").pop()), value, bar);
          cells.set(i, { button, value, bar });
          return node("td", { class: i === mlp ? "mpx-mlp" : null }, button);
        }));
    });
    const walk = (event, row, column) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = place[row + step[0]]?.[column + step[1]];
      if (next === undefined) return;
      for (const i of place.flat()) cells.get(i).button.tabIndex = -1;
      cells.get(next).button.tabIndex = 0;
      cells.get(next).button.focus();
    };
    cells.get(place[0][0]).button.tabIndex = 0;
    whole.append(node("div", { class: "mpx-scroll" }, node("table", { class: "mpx-grid" },
      node("caption", {}, title),
      node("thead", {}, node("tr", {}, node("td"), ...Array.from({ length: width }, (_, c) =>
        node("th", { scope: "col" }, c < rows[0].heads.length ? String(c) : "MLP")))),
      node("tbody", {}, ...body))));
  }
  const update = (closed, changed, view, largest) => {
    for (const [i, { button, value, bar }] of cells) {
      const shut = closed.has(i);
      const { background, ink, text } = VIEWS[view](scene, i, largest, changed);
      button.style.background = shut ? "" : background;
      button.style.color = shut ? "" : ink;
      value.textContent = shut ? "closed" : text;
      bar.style.width = shut ? "0" : percent(Math.min(1, changed?.[i] ?? 0));
      const count = scene.counts[i];
      button.className = "mpx-site" + (shut ? " mpx-closed" : "") +
        (!scene.nets || !count ? "" : count === scene.nets ? " mpx-all" : " mpx-some");
      button.setAttribute("aria-pressed", String(shut));
      button.setAttribute("aria-label", siteLabel(scene, i, shut, changed));
      button.title = siteLabel(scene, i, shut, changed);
    }
  };
  return { element: whole, update };
}

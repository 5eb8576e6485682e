// Attention between two rows of tokens: pick a head, then a token, and see where it looks.
// Everything from data is set as text, never as HTML.

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function shownToken(token) {
  return token.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "·") || "∅";
}

// From the page's ground to a hue {light, dark}, each [r, g, b], and the ink that reads on it: for a
// light page and for a dark one.
function mixed(hue, part) {
  const share = Math.min(1, Math.max(0, part));
  const light = mixedOn([255, 255, 255], hue.light, share);
  const dark = mixedOn([27, 33, 39], hue.dark, share);
  return {
    background: `light-dark(${light.background}, ${dark.background})`,
    ink: `light-dark(${light.ink}, ${dark.ink})`,
  };
}

function mixedOn(ground, colour, share) {
  const [r, g, b] = colour.map((c, i) => Math.round(ground[i] + (c - ground[i]) * share));
  // relative luminance (WCAG 2.2); above 0.179 black has the higher contrast, 4.58 or more
  const line = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = 0.2126 * line(r) + 0.7152 * line(g) + 0.0722 * line(b);
  return { background: `rgb(${r},${g},${b})`, ink: luminance > 0.179 ? "#000" : "#fff" };
}

const ATTENTION = { light: [8, 69, 148], dark: [158, 202, 255] };

function paintWeight(element, weight) {
  const { background, ink } = mixed(ATTENTION, weight);
  element.style.background = background;
  element.style.color = ink;
}

// props: names [head], weights [head][row][column], rows, columns (tokens), rowTitle, columnTitle;
// picked {side: "row" | "column", index} and onPick(picked) if the token picked is kept elsewhere.
function AttentionRows(mount, props) {
  const { names, weights, rows, columns, rowTitle, columnTitle } = props;
  let head = 0;
  let picked = props.picked ?? null;
  const said = node("p", { class: "mp-said", "aria-live": "polite" });
  const token = (side, index, name) =>
    node("button", {
      type: "button", dir: "auto", "aria-pressed": "false",
      on: { mouseenter: () => pick(side, index), focus: () => pick(side, index), click: () => pick(side, index) },
    }, shownToken(name));
  const rowTokens = rows.map((name, i) => token("row", i, name));
  const columnTokens = columns.map((name, i) => token("column", i, name));
  const headButtons = names.map((name, i) =>
    node("button", { type: "button", "aria-pressed": "false", on: { click: () => choose(i) } }, name));
  const cells = rows.map(() => columns.map(() => node("td")));
  const matrix = node("table", { "aria-label": "attention weights" },
    node("thead", {}, node("tr", {}, node("td"), ...columns.map((name) => node("th", { scope: "col" }, shownToken(name))))),
    node("tbody", {}, ...rows.map((name, r) =>
      node("tr", {}, node("th", { scope: "row" }, node("bdi", {}, shownToken(name))), ...cells[r]))));

  function choose(i) {
    head = i;
    headButtons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === i)));
    cells.forEach((line, r) => line.forEach((cell, c) => {
      paintWeight(cell, weights[head][r][c]);
      cell.title = `${shownToken(rows[r])} → ${shownToken(columns[c])}: ${weights[head][r][c].toFixed(3)}`;
    }));
    const line = picked?.side === "column" ? columns : rows;
    pick(picked?.side ?? "row", Math.min(picked?.index ?? rows.length - 1, line.length - 1));
  }

  function pick(side, index) {
    picked = { side, index };
    props.onPick?.(picked);
    const here = side === "row" ? rowTokens : columnTokens;
    const there = side === "row" ? columnTokens : rowTokens;
    const weight = (k) => (side === "row" ? weights[head][index][k] : weights[head][k][index]);
    here.forEach((button, k) => {
      button.removeAttribute("style");
      button.setAttribute("aria-pressed", String(k === index));
    });
    there.forEach((button, k) => {
      button.setAttribute("aria-pressed", "false");
      paintWeight(button, weight(k));
      button.title = weight(k).toFixed(3);
    });
    const best = there.map((_, k) => k).sort((a, b) => weight(b) - weight(a)).slice(0, 3);
    const names_ = side === "row" ? columns : rows;
    said.replaceChildren(
      `Head ${names[head]}: `, node("bdi", {}, `“${shownToken((side === "row" ? rows : columns)[index])}”`),
      side === "row" ? " attends most to " : " gets most attention from ",
      ...best.flatMap((k, place) => [place ? ", " : "", node("bdi", {}, `“${shownToken(names_[k])}”`), ` ${weight(k).toFixed(2)}`]),
    );
  }

  mount.replaceChildren(node("div", { class: "mp-rows" },
    names.length > 1 ? node("div", { class: "mp-heads", role: "group", "aria-label": "heads" }, ...headButtons) : "",
    node("div", { class: "mp-label" }, rowTitle),
    node("div", { class: "mp-line", role: "group", "aria-label": rowTitle }, ...rowTokens),
    node("div", { class: "mp-label" }, columnTitle),
    node("div", { class: "mp-line", role: "group", "aria-label": columnTitle }, ...columnTokens),
    said, node("div", { class: "mp-matrix", tabindex: "0", role: "region", "aria-label": "all weights" }, matrix)));
  choose(0);
}

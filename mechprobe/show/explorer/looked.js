// The site looked at: its facts and its attention on the example, both of the state shown.

const LOOK_AFTER = 90; // milliseconds on a site before its attention is asked for

// ask(question) gives attention; shown() the answers on the page; failed(error) says why not.
// Returns element, look(side, site) and refresh(), for when another state is shown.
function makeLooked(ask, shown, failed) {
  let looked = null; // {side, site}
  let picked = null; // the token of the attention picture
  let asked = 0;
  let timer = 0;
  const title = node("h3", {}, "Attention");
  const facts = node("p", { class: "mpx-note" });
  const mount = node("div", {}, node("p", { class: "mpx-note" },
    "Point at a head, or move to one with the arrow keys, to see where it looks."));
  const element = node("section", { class: "mpx-attention", "aria-label": "the site looked at" }, title, facts, mount);

  function describe({ side, site }, { state, scene, sets }) {
    const name = siteTitle(scene.sites[site]);
    title.textContent = name[0].toUpperCase() + name.slice(1) + (state.comparing ? ` in set ${"AB"[side]}` : "");
    facts.textContent = siteFacts(scene, site, state.closed[side].has(site), sets[side]?.changed);
  }

  function draw(name, answer, closed) {
    AttentionRows(mount, {
      names: [name], weights: [answer.weights], rows: answer.rows, columns: answer.columns,
      rowTitle: "Tokens that attend", columnTitle: "Tokens attended to",
      picked, onPick: (token) => { picked = token; },
    });
    if (answer.open && closed.size) mount.prepend(node("p", { class: "mpx-note" }, answer.open));
  }

  // Words and picture change together, when the answer to the last question has come.
  async function refresh() {
    const ticket = (asked += 1);
    const of = shown();
    element.classList.remove("mpx-pending");
    if (!looked || !of?.sets[looked.side]) return;
    const { side, site } = looked;
    const { checkpoint, reads, closed } = of.state;
    const name = of.scene.sites[site];
    if (name.includes("mlp")) {
      describe({ side, site }, of);
      mount.replaceChildren(node("p", { class: "mpx-note" }, "An MLP layer looks at no other token."));
      return;
    }
    element.classList.add("mpx-pending");
    try {
      const answer = await ask({ kind: "attention", checkpoint, site: name, closed: sitesOf(of.scene, closed[side]), reads });
      if (ticket !== asked) return;
      describe({ side, site }, of);
      draw(name, answer, closed[side]);
    } catch (error) {
      if (ticket === asked) failed(error);
    } finally {
      if (ticket === asked) element.classList.remove("mpx-pending");
    }
  }

  function look(side, site) {
    looked = { side, site };
    clearTimeout(timer);
    timer = setTimeout(refresh, LOOK_AFTER);
  }

  return { element, look, refresh };
}

// The site looked at: its facts and its attention on the example, both of the state shown.

const LOOK_AFTER = 90; // milliseconds on a site before its attention is asked for

// ask(question) gives attention; shown() the answers on the page.
// Returns element, look(side, site) and refresh(), for when another state is shown.
function makeLooked(ask, shown) {
  let looked = null; // {side, site}
  let picked = null; // the token of the attention picture
  let asked = 0;
  let timer = 0;
  const title = node("h3", {}, "Attention");
  const facts = node("p", { class: "mpx-note" });
  const mount = node("div");
  const element = node("section", { class: "mpx-attention", "aria-label": "the site looked at" }, title, facts, mount);
  say("Point at a head, or move to one with the arrow keys, to see where it looks.");

  function describe({ side, site }, { state, scene, sets }) {
    const name = siteTitle(scene.sites[site]);
    title.textContent = name[0].toUpperCase() + name.slice(1) + (state.comparing ? ` in set ${"AB"[side]}` : "");
    facts.textContent = siteFacts(scene, site, state.closed[side].has(site), sets[side]?.changed);
  }

  function say(text) {
    mount.replaceChildren(node("p", { class: "mpx-note" }, text));
  }

  function draw(name, answer, closed) {
    AttentionRows(mount, {
      names: [name], weights: [answer.weights], rows: answer.rows, columns: answer.columns,
      rowTitle: "Tokens that attend", columnTitle: "Tokens attended to",
      picked, onPick: (token) => { picked = token; },
    });
    if (answer.open && closed.length) mount.prepend(node("p", { class: "mpx-note" }, answer.open));
  }

  // What draws a site: its attention, or why there is none.
  async function picture(name, closed, { checkpoint, reads }) {
    if (name.includes("mlp")) return () => say("An MLP layer looks at no other token.");
    try {
      const answer = await ask({ kind: "attention", checkpoint, site: name, closed, reads });
      return () => draw(name, answer, closed);
    } catch (error) {
      return () => say(`Its attention is not known: ${error.message}`);
    }
  }

  // Words and picture change together, when the answer to the last question has come.
  async function refresh() {
    const of = shown();
    if (!looked || !of) return;
    const { site } = looked;
    const side = of.sets[looked.side] ? looked.side : 0; // set B may have gone
    const ticket = (asked += 1);
    element.classList.add("mpx-pending");
    const drawIt = await picture(of.scene.sites[site], sitesOf(of.scene, of.state.closed[side]), of.state);
    if (ticket !== asked) return;
    element.classList.remove("mpx-pending");
    describe({ side, site }, of);
    drawIt();
  }

  function look(side, site) {
    looked = { side, site };
    clearTimeout(timer);
    timer = setTimeout(refresh, LOOK_AFTER);
  }

  return { element, look, refresh };
}

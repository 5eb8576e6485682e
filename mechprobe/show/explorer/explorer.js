// The circuit explorer: puts the page together and keeps it on the state that was asked for last.
// ask(question) is a promise of the answer; this knows neither Python nor anywidget.

const SLOW = 400; // milliseconds until the page says that it waits

// The questions under way, as data-state of the page; a refused answer becomes an Error.
function asker(root, ask) {
  let waiting = 0;
  const count = (step) => {
    waiting += step;
    root.dataset.state = waiting ? "busy" : "ready";
  };
  const answered = async (question) => {
    count(1);
    try {
      const answer = await ask(question);
      if (answer.error) throw new Error(answer.error);
      return answer;
    } finally {
      count(-1);
    }
  };
  return { ask: answered, count };
}

function makeStatus() {
  const element = node("p", { class: "mpx-status", role: "status" });
  let timer = 0;
  const say = (text, wrong = false) => {
    clearTimeout(timer);
    element.textContent = text;
    element.classList.toggle("mpx-wrong", wrong);
  };
  const saySoon = (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => say(text), SLOW);
  };
  return { element, say, saySoon };
}

function largestEffect({ effects }) {
  return Math.max(...effects.filter(Boolean).map((effect) => Math.abs(effect[0])), 1e-12);
}

function legendText(scene, view) {
  const metric = spaced(scene.metric);
  const size = number(largestEffect(scene));
  const words = {
    effect: scene.scored
      ? `Colour: effect by ${effectName(scene)} (blue: above zero, up to ${size}; orange: below)`
      : `Colour: what closing the site alone takes from the ${metric} (blue: it helps, up to ${size}; orange: it hurts)`,
    kept: "Colour: share of the subnetworks that keep the site",
    changed: "Colour: how far the site's own output has moved from the untouched model's",
  }[view];
  const frames = scene.nets ? " Thick frame: kept by every subnetwork; dashed: by some." : "";
  return `${words}. Orange bar: how far the site has moved now.${frames}`;
}

function differenceText({ state, scene, difference }) {
  if (!state.comparing) return "";
  return difference
    ? `B minus A: ${spaced(scene.metric)} ${estimate(difference)}`
    : "B minus A: not measured in this saved page";
}

function undoKeys(want) {
  return (event) => {
    const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName) && !event.target.readOnly;
    if (typing || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    want(event.shiftKey ? redoing : undoing);
  };
}

function startExplorer(root, scene, askPython, offline = false) {
  let view = "effect";
  const { ask, count } = asker(root, askPython);
  const { element: status, say, saySoon } = makeStatus();
  const want = (change) => page.want(change);

  const legend = node("p", { class: "mpx-note" });
  const difference = node("p", { class: "mpx-difference", "aria-live": "polite" });
  const tools = makeTools(scene, want, (chosen) => {
    view = chosen;
    if (page.shown) paint(page.shown);
  });
  const reader = makeReader(scene, want, !offline);
  const looked = makeLooked(ask, () => page.shown);
  const sides = [0, 1].map((side) => makeSide(side, scene, {
    toggle: (site) => want((state) => toggling(state, side, site)),
    close: (closed) => want((state) => closing(state, side, closed)),
    look: (site) => looked.look(side, site),
    copied: () => say("Copied as Python."),
  }));

  // The controls stand as wanted; all numbers, and the sites, as shown.
  function mark(wanted) {
    const shown = page.shown?.state ?? wanted;
    tools.mark(wanted);
    reader.mark(wanted);
    sides.forEach((side, i) => side.mark(wanted.closed[i], shown.closed[i]));
    root.classList.toggle("mpx-pending", wanted !== shown);
    root.setAttribute("aria-busy", String(wanted !== shown));
    if (wanted !== shown) saySoon("Waiting for the answer …");
  }

  function paint(answers) {
    const { state, scene: now, reading, sets } = answers;
    legend.textContent = legendText(now, view);
    difference.textContent = differenceText(answers);
    reader.show(reading, state);
    root.classList.toggle("mpx-two", state.comparing);
    sides.forEach(({ element, show }, i) => {
      element.hidden = !sets[i];
      if (!sets[i]) return;
      show(sets[i], {
        scene: now, closed: state.closed[i], comparing: state.comparing, view, largest: largestEffect(now),
      });
    });
  }

  function sayShown({ sets }, took) {
    root.dataset.ms = String(took);
    if (sets.some((set) => set?.unmeasured)) {
      say("This saved page holds single sites and its saved sets; open it in a notebook for others.");
    } else say(offline ? "" : `Answered in ${took} ms.`);
  }

  root.className = "mpx";
  root.addEventListener("keydown", undoKeys(want));
  root.replaceChildren(
    node("h2", {}, `${scene.task}: ${spaced(scene.metric)}, ${spaced(scene.baseline)} baseline`),
    tools.element, legend, reader.element, difference, status,
    node("div", { class: "mpx-sides" }, ...sides.map((side) => side.element), looked.element),
  );
  const page = follow(scene, ask, {
    busy: (asks) => count(asks ? 1 : -1),
    wanted: mark,
    shown(answers, took) {
      paint(answers);
      sayShown(answers, took);
      looked.refresh();
    },
    failed: (error) => say(error.message, true),
  });
  want((state) => state);
}

// What the page is about. A state is never changed: a click makes the next one.
// {checkpoint, reads: number of an example or [text] or [text, text], comparing,
//  closed: [Set of site numbers of set A, of set B], past and future: earlier and undone `closed`}

function firstState(scene) {
  return {
    checkpoint: scene.checkpoint, reads: 0, comparing: false,
    closed: [new Set(), new Set()], past: [], future: [],
  };
}

function closing(state, side, closed) {
  const next = state.closed.map((old, i) => (i === side ? closed : old));
  return { ...state, closed: next, past: [...state.past, state.closed], future: [] };
}

function toggling(state, side, site) {
  const closed = new Set(state.closed[side]);
  if (!closed.delete(site)) closed.add(site);
  return closing(state, side, closed);
}

function undoing(state) {
  return state.past.length ? stepping(state, "past", "future") : state;
}

function redoing(state) {
  return state.future.length ? stepping(state, "future", "past") : state;
}

function stepping(state, from, to) {
  const closed = state[from].at(-1);
  return {
    ...state, closed, [from]: state[from].slice(0, -1), [to]: [...state[to], state.closed],
    comparing: state.comparing || closed[1] !== state.closed[1],
  };
}

function sitesOf(scene, closed) {
  return [...closed].sort((a, b) => a - b).map((i) => scene.sites[i]);
}

function closedBut(scene, kept) {
  const open = new Set(kept);
  return new Set(scene.sites.flatMap((site, i) => (open.has(site) ? [] : [i])));
}

function nameOfSet(scene, closed) {
  return Object.keys(scene.sets).find((name) => {
    const kept = new Set(scene.sets[name]);
    return scene.sites.every((site, i) => kept.has(site) !== closed.has(i));
  });
}

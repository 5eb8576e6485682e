// From the state wanted to the state shown: a state is shown with its own answers, or not at all.

// All that a state is shown with; what `last` has already is not asked for again. Returns a promise
// of {state, scene, reading, sets: [answer of set A, of B or null], difference}.
async function answersTo(state, scenes, ask, last) {
  const { checkpoint, reads, comparing } = state;
  if (!scenes.has(checkpoint)) scenes.set(checkpoint, (await ask({ kind: "scene", checkpoint })).scene);
  const scene = scenes.get(checkpoint);
  const [first, second] = state.closed.map((closed) => sitesOf(scene, closed));
  const here = last?.state.checkpoint === checkpoint && last.state.reads === reads;
  const set = (side, closed) => {
    const known = here && last.state.closed[side] === state.closed[side] && last.sets[side];
    return known || ask({ kind: "set", checkpoint, reads, side, closed });
  };
  const [reading, a, b, compared] = await Promise.all([
    here ? last.reading : ask({ kind: "reads", checkpoint, reads }),
    set(0, first), comparing ? set(1, second) : null,
    comparing ? ask({ kind: "compare", checkpoint, first, second }) : null,
  ]);
  return { state, scene, reading, sets: [a, b], difference: compared?.difference };
}

// Asks for one state at a time; states overtaken meanwhile are never asked for. When the answers
// fail and nothing newer is wanted, the state shown is wanted again. Calls on.busy(whether it asks),
// on.wanted(state), on.shown(answers, milliseconds) and on.failed(error).
function follow(scene, ask, on) {
  const scenes = new Map([[scene.checkpoint, scene]]);
  let wanted = firstState(scene);
  let shown = null;
  let asking = false;

  async function attempt(state) {
    const began = performance.now();
    try {
      shown = await answersTo(state, scenes, ask, shown);
      on.shown(shown, Math.round(performance.now() - began));
    } catch (error) {
      if (wanted !== state) return;
      wanted = shown?.state ?? wanted;
      on.failed(error);
      if (!shown) throw error;
    }
    on.wanted(wanted);
  }

  async function catchUp() {
    if (asking) return;
    asking = true;
    on.busy(true);
    try {
      while (wanted !== shown?.state) await attempt(wanted);
    } catch {
      // nothing was ever shown: the next click asks again
    }
    asking = false;
    on.busy(false);
  }

  return {
    want(change) {
      wanted = change(wanted);
      on.wanted(wanted);
      catchUp();
    },
    get shown() { return shown; },
  };
}

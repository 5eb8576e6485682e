// The page by itself: questions are answered from what was measured when it was saved.

function fromSaved({ states }) {
  let state = states.at(-1);
  const number = () => new Map(state.scene.sites.map((name, i) => [name, i]));
  const key = (closed) => closed.map((name) => number().get(name)).sort((a, b) => a - b).join(",");
  const found = (closed) => state.answers[key(closed)];
  const answers = {
    set({ closed, reads }) {
      const answer = found(closed);
      return answer ? { ...answer, outputs: answer.outputs[reads] } : { unmeasured: true };
    },
    compare({ first, second }) {
      const [a, b] = [found(first), found(second)];
      if (!a || !b) return { difference: null };
      const gap = b.metric[0] - a.metric[0];
      return { difference: [gap, gap, gap] };
    },
    reads: ({ reads }) => state.readings[reads],
    attention({ site, reads }) {
      const { words, decoder_words, attention } = state.readings[reads];
      const queries = /^(dec|cross) /.test(site) ? decoder_words : words;
      const keys = site.startsWith("dec ") ? decoder_words : words;
      const weights = attention[site].map((row) => row.map((weight) => weight / 1000));
      return { rows: queries, columns: keys, weights, open: "Of the untouched model: this saved page holds no other." };
    },
    checkpoint({ index }) {
      state = states[index];
      return { scene: state.scene };
    },
  };
  return { scene: state.scene, ask: async (question) => answers[question.kind](question) };
}

const saved = fromSaved(JSON.parse(document.getElementById("saved").textContent));
startExplorer(document.getElementById("explorer"), saved.scene, saved.ask, true);

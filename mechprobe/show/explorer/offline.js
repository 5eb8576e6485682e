// The page by itself: questions are answered from what was measured when it was saved.

function fromSaved({ states }) {
  const numberOf = new Map(states[0].scene.sites.map((name, i) => [name, i]));
  const found = ({ answers }, closed) =>
    answers[closed.map((name) => numberOf.get(name)).sort((a, b) => a - b).join(",")];
  const answers = {
    scene: ({ scene }) => ({ scene }),
    set(state, { closed, reads }) {
      const answer = found(state, closed);
      return answer ? { ...answer, outputs: answer.outputs[reads] } : { unmeasured: true };
    },
    compare(state, { first, second }) {
      const [a, b] = [found(state, first), found(state, second)];
      if (!a || !b) return { difference: null };
      const gap = b.metric[0] - a.metric[0];
      return { difference: [gap, gap, gap] };
    },
    reads: ({ readings }, { reads }) => readings[reads],
    attention({ readings }, { site, reads }) {
      const { words, decoder_words, attention } = readings[reads];
      const queries = /^(dec|cross) /.test(site) ? decoder_words : words;
      const keys = site.startsWith("dec ") ? decoder_words : words;
      const weights = attention[site].map((row) => row.map((weight) => weight / 1000));
      return { rows: queries, columns: keys, weights, open: "Of the untouched model: this saved page holds no other." };
    },
  };
  return async (question) => answers[question.kind](states[question.checkpoint], question);
}

const saved = JSON.parse(document.getElementById("saved").textContent);
startExplorer(document.getElementById("explorer"), saved.states.at(-1).scene, fromSaved(saved), true);

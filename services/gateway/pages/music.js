// The panel of tunes: each with its score, its sound and its piano roll.

import { lines } from "/pages/api.js";
import { facts, h } from "/pages/dom.js";
import { textArea } from "/pages/form.js";
import { readNotes } from "/pages/midi.js";
import { makeRoll } from "/pages/roll.js";
import { drawScore } from "/pages/score.js";
import { blobOf, bytesOf } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

export function mount(place, context) {
  const opening = textArea("prompt", "Opening in ABC (may be left out)", { rows: 2 });
  const bench = makeWorkbench(context, {
    label: "Compose",
    content: [opening.element],
    shown: ["genre", "key", "meter", "bars", "tempo", "n", "seed", "temperature", "formats"],
    hidden: ["prompt"],
    usual: { formats: ["abc", "midi", "wav"] },
    body: () => ({ ...(opening.area.value.trim() ? { prompt: opening.area.value } : {}), stream: true }),
    show,
  });
  place.replaceChildren(bench.element);

  async function show(response, _, { output, toolbar }) {
    const files = [];
    output.replaceChildren();
    for await (const tune of lines(response)) {
      if (tune.object === "list.end") return;
      output.append(tuneView(tune, output.clientWidth));
      files.push(...filesOf(tune));
      toolbar.offers(files);
    }
  }

  return () => bench.stop();
}

function tuneView(tune, room) {
  const name = `${tune.genre} in ${tune.key}`;
  const audio = tune.wav
    ? h("audio", {
        controls: true,
        "aria-label": name,
        src: URL.createObjectURL(blobOf(tune.wav, "audio/wav")),
        "data-testid": "audio",
      })
    : null;
  const told = facts([
    ["Metre", tune.meter],
    ["Bars", tune.bars],
    ["Tempo", tune.tempo],
    ["Length", `${tune.seconds.toFixed(1)} s`],
    ["Read by a parser", tune.valid ? "as asked for" : "not as asked for"],
    ["Seed", tune.seed],
  ]);
  const parts = [h("h2", { class: "small" }, name), told, audio];
  if (tune.abc)
    parts.push(
      h(
        "div",
        { class: "paper", tabindex: "0", role: "group", "aria-label": `Score of ${name}` },
        drawScore(tune.abc, `Score: ${name}, ${tune.bars} bars of ${tune.meter}`),
      ),
    );
  if (tune.midi)
    parts.push(makeRoll(readNotes(bytesOf(tune.midi)), tune.seconds, audio, `Piano roll of ${name}`, room));
  if (tune.abc) parts.push(h("details", {}, h("summary", {}, "ABC"), h("pre", { tabindex: "0" }, tune.abc)));
  return h("article", { class: "tune", "data-testid": "tune" }, parts);
}

function filesOf(tune) {
  const stem = `tune-${tune.seed}`;
  const text = (content, type) => new Blob([content], { type });
  return [
    tune.abc && { name: `${stem}.abc`, blob: text(tune.abc, "text/plain") },
    tune.midi && { name: `${stem}.mid`, blob: blobOf(tune.midi, "audio/midi") },
    tune.wav && { name: `${stem}.wav`, blob: blobOf(tune.wav, "audio/wav") },
    tune.musicxml && { name: `${stem}.musicxml`, blob: text(tune.musicxml, "application/xml") },
  ].filter(Boolean);
}

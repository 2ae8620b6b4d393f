// The panel of interpolations: frames between two seeds or two images, and a slider that goes through them.

import { button, h, labelled } from "/pages/dom.js";
import { parse } from "/pages/exact_json.js";
import { sizeFor } from "/pages/images.js";
import { makePicker } from "/pages/picture.js";
import { blobOf } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

export function mount(place, context) {
  const ends = [
    makeEnd("Start", context, context.linked.start_seed ?? 1),
    makeEnd("End", context, context.linked.end_seed ?? 2),
  ];
  const bench = makeWorkbench(context, {
    label: "Interpolate",
    content: ends.map((end) => end.element),
    shown: ["frames", "seed", "steps", "guidance_scale", "temperature"],
    hidden: ["start", "end"],
    usual: { frames: 16 },
    body: () => ({ start: ends[0].value(), end: ends[1].value() }),
    linked: () => ({ start_seed: ends[0].seed(), end_seed: ends[1].seed() }),
    show,
  });
  place.replaceChildren(bench.element);

  async function show(response, _, { output, toolbar }) {
    const answer = parse(await response.text());
    const { frames, output_format: format } = answer;
    const image = h("img", { class: "pixels wide", width: 320, height: 320, "data-testid": "frame" });
    const slider = h("input", {
      type: "range",
      min: 0,
      max: frames.length - 1,
      value: 0,
      oninput: () => turn(),
      "data-testid": "position",
    });
    const told = h("output", {});
    const strip = frames.map((frame, at) =>
      h(
        "button",
        { type: "button", class: "film", "aria-label": `Frame ${at + 1}`, onclick: () => turn(at) },
        h("img", { class: "pixels", src: urlOf(frame, format), alt: "", width: 48, height: 48 }),
      ),
    );
    function turn(at = Number(slider.value)) {
      slider.value = at;
      image.src = urlOf(frames[at], format);
      image.alt = `Frame ${at + 1} of ${frames.length}, at ${frames[at].position.toFixed(2)} of the way`;
      told.textContent = `${Math.round(100 * frames[at].position)} % of the way`;
    }
    turn(0);
    output.replaceChildren(
      h("div", { class: "frame wide" }, image),
      labelled("Position", slider),
      told,
      h("div", { class: "strip" }, strip),
    );
    toolbar.offers(
      frames.map((frame, at) => ({
        name: `frame-${at + 1}.${format}`,
        blob: blobOf(frame.b64_json, `image/${format}`),
      })),
    );
  }

  return () => bench.stop();
}

function urlOf(frame, format) {
  return `data:image/${format};base64,${frame.b64_json}`;
}

// One end: what a seed draws, or a given image.
function makeEnd(name, context, usualSeed) {
  const seed = h("input", {
    type: "text",
    inputmode: "numeric",
    pattern: "-?[0-9]+",
    value: usualSeed,
    "data-testid": `${name.toLowerCase()}-seed`,
  });
  const prompt = h("input", { type: "text", "data-testid": `${name.toLowerCase()}-prompt` });
  const picker = makePicker(`${name}: an image in place of the seed`);
  const other = button("Another seed", () => (seed.value = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1), {
    class: "quiet",
  });
  const given = h("details", { class: "more" }, h("summary", {}, "From an image"), picker.element);
  const element = h(
    "fieldset",
    { class: "end" },
    h("legend", {}, name),
    labelled("Seed", seed),
    other,
    labelled("Prompt", prompt),
    given,
  );
  const value = () => {
    if (!picker.image) return { seed: seed.value, prompt: prompt.value };
    const { width, height } = sizeFor(context.card, picker.image);
    return { image: picker.url(width, height), prompt: prompt.value };
  };
  return { element, value, seed: () => seed.value };
}

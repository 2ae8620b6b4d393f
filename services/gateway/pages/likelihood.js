// The panel of likelihoods: a drawn picture beside what every model that scores or reconstructs images makes of it.

import { postJson } from "/pages/api.js";
import { button, facts, h, number } from "/pages/dom.js";
import { makePainter, scaled } from "/pages/painter.js";
import { makePicker } from "/pages/picture.js";
import { seesImages, TASKS } from "/pages/tasks.js";
import { jsonFile } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

const USUAL_SIDE = 28; // of a model that tells no size
const FILLED = 20 / 28; // of the side: how large a digit is in the usual sets of them

export function mount(place, context) {
  const painter = makePainter("Picture", { ended: () => auto.checked && bench.run() });
  const picker = makePicker("Or an image", { taken: () => bench.run() });
  const auto = h("input", { type: "checkbox", checked: true });
  const centred = h("input", { type: "checkbox", checked: true, "data-testid": "centred" });
  const models = context.cards.filter(
    (card) => seesImages(card) && ["score", "reconstruction"].some((task) => card.tasks.includes(task)),
  );
  const bench = makeWorkbench(context, {
    label: "Look",
    content: [
      h("p", { class: "hint" }, "Draw a digit, light on dark; every model that can reads it."),
      painter.element,
      h("label", { class: "tick" }, centred, "Centre and scale it, as sets of digits do"),
      h("label", { class: "tick" }, auto, "Read after each stroke"),
      picker.element,
      button("Forget the image", () => (picker.image = null), { class: "quiet" }),
    ],
    hidden: ["input", "output_format", "output_compression", "samples", "seed", "steps", "metric", "prompt"],
    body: () => ({}),
  });
  bench.run = () => {
    bench.stop();
    bench.error.textContent = "";
    return bench.attend(look);
  };
  place.replaceChildren(bench.element);

  async function look(signal) {
    const columns = models.map((card) => makeColumn(card, card.id === context.card.id));
    bench.output.replaceChildren(
      h(
        "div",
        { class: "grid wide-cells", "data-testid": "models" },
        columns.map((column) => column.element),
      ),
    );
    const results = {};
    await Promise.all(
      columns.map(async ({ card, take, fail }) => {
        try {
          results[card.id] = await ask(card, signal);
          take(results[card.id]);
        } catch (error) {
          if (!signal.aborted) fail(error);
        }
      }),
    );
    signal.throwIfAborted();
    bench.toolbar.offers([jsonFile("likelihoods.json", results)]);
  }

  async function ask(card, signal) {
    if (!card.limits.width && card.tasks.includes("image")) card.limits = await sizeOfDrawing(card, signal);
    const input = pictureFor(card);
    if (card.id === context.card.id) bench.note(context.path, { model: card.id, input });
    const found = { input };
    for (const task of ["score", "reconstruction"]) {
      if (!card.tasks.includes(task)) continue;
      const answer = await postJson(TASKS[task].path, { model: card.id, input }, signal);
      found[task] = answer.data[0];
    }
    return found;
  }

  function pictureFor(card) {
    const width = card.limits.width ?? USUAL_SIDE;
    const height = card.limits.height ?? USUAL_SIDE;
    if (picker.image) return picker.url(width, height);
    const ink = painter.layer(painter.side, painter.side);
    const fitted = centred.checked ? centre(ink, width, height) : scaled(ink, width, height);
    const canvas = h("canvas", { width, height });
    const target = canvas.getContext("2d");
    target.fillStyle = "#000000";
    target.fillRect(0, 0, width, height);
    target.drawImage(fitted, 0, 0);
    return canvas.toDataURL("image/png");
  }

  return () => bench.stop();
}

// A model that was never loaded has not told its size yet. A drawing tells it, and wakes the model.
async function sizeOfDrawing({ id }, signal) {
  const { data } = await postJson(TASKS.image.path, { model: id, prompt: "" }, signal);
  const [{ width, height }] = data;
  return { width, height };
}

// Scales what is painted into the usual box, its centre of mass in the middle.
function centre(ink, width, height) {
  const { data } = ink.getContext("2d").getImageData(0, 0, ink.width, ink.height);
  const box = { left: ink.width, right: -1, top: ink.height, bottom: -1 };
  let mass = 0;
  let sumX = 0;
  let sumY = 0;
  for (let y = 0; y < ink.height; y++) {
    for (let x = 0; x < ink.width; x++) {
      const alpha = data[4 * (y * ink.width + x) + 3];
      if (!alpha) continue;
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x);
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y);
      mass += alpha;
      sumX += alpha * x;
      sumY += alpha * y;
    }
  }
  if (!mass) return scaled(ink, width, height);
  const side = Math.max(box.right - box.left, box.bottom - box.top) + 1;
  const scale = (FILLED * Math.min(width, height)) / side;
  const left = width / 2 - scale * (sumX / mass);
  const top = height / 2 - scale * (sumY / mass);
  return scaled(ink, width, height, [0, 0, ink.width, ink.height], [left, top, scale * ink.width, scale * ink.height]);
}

function makeColumn(card, isCurrent) {
  const body = h(
    "div",
    { class: "column", "aria-busy": "true" },
    h("p", { class: "muted" }, card.state === "ready" ? "Reading …" : "Waking …"),
  );
  const element = h(
    "section",
    { class: isCurrent ? "cell current" : "cell", "aria-label": card.id, "data-testid": `model-${card.id}` },
    h("h2", { class: "small" }, card.id),
    h("p", { class: "muted" }, card.family),
    body,
  );

  function take({ input, score, reconstruction }) {
    const seen = [picture(input, "The input")];
    if (reconstruction?.image)
      seen.push(picture(`data:image/png;base64,${reconstruction.image.b64_json}`, "Reconstruction"));
    const told = [];
    if (score) {
      const name = score.metric.replaceAll("_", " ");
      told.push([
        `${name[0].toUpperCase()}${name.slice(1)}`,
        `${number(score.value, 4)} nats, ${score.kind.replaceAll("_", " ")}`,
      ]);
      told.push(["Bits a dimension", score.bits_per_dimension === null ? null : number(score.bits_per_dimension)]);
      told.push(["Percentile in training", score.percentile ? number(score.percentile.training) : null]);
      told.push(["Percentile held out", score.percentile ? number(score.percentile.held_out) : null]);
    }
    if (reconstruction) told.push(["Squared error", number(reconstruction.error)]);
    body.removeAttribute("aria-busy");
    const gauge = score?.percentile ? meter(score.percentile.held_out) : null;
    body.replaceChildren(h("div", { class: "pair" }, seen), ...(gauge ? [gauge] : []), facts(told));
  }

  function fail(error) {
    body.removeAttribute("aria-busy");
    body.replaceChildren(h("p", { class: "error" }, error.message));
  }

  return { card, element, take, fail };
}

function picture(url, text) {
  return h(
    "figure",
    {},
    h("img", { class: "pixels", src: url, alt: text, width: 96, height: 96 }),
    h("figcaption", {}, text),
  );
}

function meter(percentile) {
  return h("meter", {
    min: 0,
    max: 100,
    low: 5,
    optimum: 100,
    value: percentile,
    "aria-label": `Likelier than ${number(percentile)} % of held-out images`,
  });
}

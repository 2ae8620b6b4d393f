// The panel of images: a grid that sharpens as previews come, edits of what a mask leaves open, variations on a click.

import { events } from "/pages/api.js";
import { button, h } from "/pages/dom.js";
import { textArea } from "/pages/form.js";
import { makePainter, maskOf } from "/pages/painter.js";
import { makePicker } from "/pages/picture.js";
import { blobOf } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

const LABELS = { image: "Draw", edit: "Edit", variation: "Vary" };
const SHOWN = ["n", "seed", "steps", "guidance_scale", "strength", "temperature", "partial_images"];

export function mount(place, context) {
  const { task, hand } = context;
  const prompt = textArea("prompt", "Prompt", { rows: 2, value: hand?.prompt ?? "" });
  const painter = task === "edit" ? makePainter("Mask", { ink: "#e0572e", paper: "#808080", brush: 60 }) : null;
  const picker =
    task === "image" ? null : makePicker("Image", { first: hand?.url, taken: (image) => painter?.under(image) });
  const bench = makeWorkbench(context, {
    label: LABELS[task],
    content: [
      picker?.element,
      painter && h("p", { class: "hint" }, "Paint over what may change."),
      painter?.element,
      prompt.element,
    ],
    shown: SHOWN,
    hidden: ["prompt", "image", "mask"],
    usual: { n: 4, partial_images: 4 },
    body: () => ({ prompt: prompt.area.value, stream: true, ...given() }),
    show,
  });
  place.replaceChildren(bench.element);
  if (task === "variation" && hand) picker.ready.then(() => bench.run());

  function given() {
    if (!picker) return {};
    const { width, height } = sizeFor(context.card, picker.image);
    const image = picker.url(width, height);
    return painter?.isPainted() ? { image, mask: maskOf(painter, width, height) } : { image };
  }

  async function show(response, body, { output, toolbar }) {
    const cells = Array.from({ length: body.n ?? 1 }, (_, index) => makeCell(index, body, context));
    output.replaceChildren(
      h(
        "div",
        { class: "grid", "data-testid": "images" },
        cells.map((cell) => cell.element),
      ),
    );
    const files = [];
    for await (const event of events(response)) {
      const isDone = event.type.endsWith(".completed");
      cells[event.index].take(event, isDone);
      if (isDone)
        files.push({
          name: `image-${event.seed}.${event.output_format}`,
          blob: blobOf(event.b64_json, `image/${event.output_format}`),
        });
      toolbar.offers(files);
    }
  }

  return () => bench.stop();
}

// The model's own size where it is known, else the picture's.
export function sizeFor(card, image) {
  const { width, height } = card.limits;
  return { width: width ?? image?.naturalWidth, height: height ?? image?.naturalHeight };
}

// One image of the grid; its place is as large before the first preview as at the end.
function makeCell(index, body, { card, go }) {
  const image = h("img", {
    class: "pixels",
    alt: `Image ${index + 1}: not drawn yet`,
    width: 256,
    height: 256,
    "data-testid": "image",
  });
  const progress = h("progress", { max: 1, value: 0, "aria-label": `Steps of image ${index + 1}` });
  const caption = h("figcaption", {}, `Image ${index + 1}`);
  const tools = h("div", { class: "tools" });
  const frame = h("div", { class: "frame" }, image);

  function take(event, isDone) {
    const url = `data:image/${event.output_format};base64,${event.b64_json}`;
    image.src = url;
    image.alt = isDone
      ? `${body.prompt || "Image"}, seed ${event.seed}`
      : `Image ${index + 1} after step ${event.step} of ${event.steps}`;
    progress.value = isDone ? 1 : event.step / event.steps;
    caption.textContent = isDone ? `Seed ${event.seed}` : `Step ${event.step} of ${event.steps}`;
    if (isDone) tools.replaceChildren(...actions({ url, prompt: body.prompt }));
  }

  function actions(hand) {
    const known = [
      ["variation", "Vary"],
      ["edit", "Edit"],
    ];
    const possible = known.filter(([task]) => card.tasks.includes(task));
    const buttons = possible.map(([task, text]) =>
      button(text, () => go(card.id, task, hand), { class: "quiet", "data-testid": `to-${task}` }),
    );
    if (card.tasks.includes("variation")) {
      image.classList.add("clickable");
      image.onclick = () => go(card.id, "variation", hand);
    }
    return buttons;
  }

  return { element: h("figure", { class: "cell" }, frame, progress, caption, tools), take };
}

// The panel of operations on given things whose answer is values: scores, vectors, tokens. One thing a line.

import { getJson } from "/pages/api.js";
import { button, h, number, table } from "/pages/dom.js";
import { readCsv } from "/pages/csv.js";
import { parse } from "/pages/exact_json.js";
import { textArea } from "/pages/form.js";
import { makePicker } from "/pages/picture.js";
import { sizeFor } from "/pages/images.js";
import { seesImages } from "/pages/tasks.js";
import { bytesOf, jsonFile } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

const SHOWN_NUMBERS = 8;
const EXAMPLES = 5;

export function mount(place, context) {
  const names = new Set(context.fields.map((field) => field.name));
  const wants = names.has("tokens") ? "tokens" : names.has("prompt") && !names.has("input") ? "prompt" : "input";
  const picker = wants === "input" && seesImages(context.card) ? makePicker("Image") : null;
  const text = textArea(
    wants,
    { tokens: "Token ids", prompt: "Text", input: "A text, or a record as JSON, a line" }[wants],
    { rows: 6 },
  );
  const examples = button("Examples", example, { class: "quiet", "data-testid": "example" });
  const bench = makeWorkbench(context, {
    label: "Ask",
    content: picker ? [picker.element] : [text.element, wants === "input" ? examples : null],
    shown: ["metric", "dimensions"],
    hidden: ["input", "prompt", "messages", "tokens", "encoding_format", "output_format", "output_compression"],
    body: () => ({ [wants]: given() }),
    show,
  });
  place.replaceChildren(bench.element);

  function given() {
    if (picker) {
      const { width, height } = sizeFor(context.card, picker.image);
      return picker.url(width, height);
    }
    if (wants === "prompt") return text.area.value;
    const things = text.area.value
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
    if (!things.length) throw new Error("Give one thing a line first.");
    if (wants === "tokens")
      return things
        .join(" ")
        .split(/[\s,]+/)
        .filter(Boolean)
        .map(Number);
    return things.map((thing) => (thing.startsWith("{") ? JSON.parse(thing) : thing));
  }

  // Some of what the model was not trained on.
  async function example() {
    try {
      const { held_out: file } = await getJson(`/v1/cards/${context.card.id}`);
      const content = file ? new TextDecoder().decode(bytesOf(file.b64)) : "";
      text.area.value =
        file?.media_type === "text/csv"
          ? readCsv(content).slice(0, EXAMPLES).map(asRecord).join("\n")
          : content.split("\n").slice(0, EXAMPLES).join("\n");
    } catch (error) {
      bench.fail(error);
    }
  }

  async function show(response, _, { output, toolbar }) {
    const answer = parse(await response.text());
    const items = answer.data ?? [answer];
    const head = [...new Set(items.flatMap(Object.keys))].filter(
      (name) => name !== "object" && items.some((item) => item[name] !== null),
    );
    output.replaceChildren(
      table(
        "Answer",
        head,
        items.map((item) => head.map((name) => told(item[name]))),
      ),
    );
    toolbar.offers([jsonFile("answer.json", answer)]);
  }

  return () => bench.stop();
}

function asRecord(texts) {
  return JSON.stringify(
    Object.fromEntries(
      Object.entries(texts).map(([name, text]) => [
        name,
        text !== "" && Number.isFinite(Number(text)) ? Number(text) : text,
      ]),
    ),
  );
}

function told(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value, 5);
  if (typeof value !== "object") return String(value);
  if (value.b64_json)
    return h("img", {
      class: "pixels",
      alt: "Image of the answer",
      src: `data:image/png;base64,${value.b64_json}`,
      width: 64,
      height: 64,
    });
  if (!Array.isArray(value))
    return Object.entries(value)
      .map(([name, each]) => `${name} ${told(each)}`)
      .join(", ");
  const rest = value.length - SHOWN_NUMBERS;
  return value.slice(0, SHOWN_NUMBERS).map(told).join(" ") + (rest > 0 ? ` … and ${rest} more` : "");
}

// The panel of forecasts: a series by hand, from a file or from the model's held-out ones, and a plot of what may follow.

import { getJson } from "/pages/api.js";
import { button, facts, h, labelled, number, table } from "/pages/dom.js";
import { parse } from "/pages/exact_json.js";
import { textArea } from "/pages/form.js";
import { plotForecast } from "/pages/plot.js";
import { bytesOf, jsonFile } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

const USUAL = Array.from({ length: 48 }, (_, at) =>
  number(20 + 0.2 * at + 6 * Math.sin((2 * Math.PI * at) / 12), 4),
).join("\n");

export function mount(place, context) {
  let later = []; // what came after an example
  let examples = null;
  const series = textArea("series", "Series: a value a line, or a time and a value with a comma between", {
    rows: 8,
    value: USUAL,
    oninput: () => (later = []),
  });
  const period = h("input", {
    type: "number",
    min: 1,
    step: 1,
    placeholder: "found by the model",
    "data-testid": "period",
  });
  const file = h("input", {
    type: "file",
    accept: ".csv,text/csv,text/plain",
    onchange: take,
    "data-testid": "series-file",
  });
  const bench = makeWorkbench(context, {
    label: "Forecast",
    content: [
      series.element,
      labelled("From a file", file),
      button("An example", example, { class: "quiet", "data-testid": "example" }),
      labelled("Period", period),
    ],
    shown: ["horizon", "quantiles", "samples", "seed"],
    hidden: ["input", "times"],
    usual: { horizon: 24, quantiles: [0.05, 0.25, 0.5, 0.75, 0.95] },
    body: () => ({ input: given() }),
    show,
  });
  place.replaceChildren(bench.element);

  async function take() {
    if (!file.files[0]) return;
    later = [];
    series.area.value = await file.files[0].text();
  }

  // Another of the series that the model was not trained on.
  async function example() {
    try {
      examples ??= await heldOut(context.card.id);
      if (!examples.length) throw new Error("This model has published no examples.");
      const one = examples[Math.floor(Math.random() * examples.length)];
      series.area.value = one.values.map((value, at) => (one.times ? `${one.times[at]}, ${value}` : value)).join("\n");
      later = one.later ?? [];
      period.value = one.season ?? "";
    } catch (error) {
      bench.fail(error);
    }
  }

  function given() {
    const rows = series.area.value
      .split("\n")
      .map((line) => line.split(",").map((cell) => cell.trim()))
      .filter((row) => row[0] !== "");
    const data = rows.filter((row) => Number.isFinite(Number(row.at(-1))));
    if (data.length < 2) throw new Error("Give a series of two values or more.");
    const values = data.map((row) => Number(row.at(-1)));
    const season = period.value ? { period: Number(period.value) } : {};
    if (data[0].length < 2) return { values, ...season };
    const times = data.map((row) => row[0]);
    return {
      values,
      times: times.every((time) => Number.isFinite(Number(time))) ? times.map(Number) : times,
      ...season,
    };
  }

  async function show(response, body, { output, toolbar }) {
    const answer = parse(await response.text());
    const [forecast] = answer.data;
    const seen = { values: body.input.values, times: body.input.times ?? body.input.values.map((_, at) => at) };
    const head = ["Time", "Mean", ...forecast.quantiles.map((path) => String(path.level))];
    const rows = forecast.times.map((time, at) => [
      time,
      number(forecast.mean[at], 4),
      ...forecast.quantiles.map((path) => number(path.values[at], 4)),
    ]);
    output.replaceChildren(
      plotForecast(seen, forecast, later, output.clientWidth),
      facts([
        ["Period", forecast.period ?? "none"],
        ["Paths", forecast.samples],
        ["Seed", forecast.seed],
      ]),
      table("What may follow", head, rows),
    );
    toolbar.offers([jsonFile("forecast.json", forecast)]);
  }

  return () => bench.stop();
}

async function heldOut(model) {
  const { held_out: file } = await getJson(`/v1/cards/${model}`);
  if (file?.media_type !== "application/json") return [];
  return JSON.parse(new TextDecoder().decode(bytesOf(file.b64))).filter((each) => Array.isArray(each.values));
}

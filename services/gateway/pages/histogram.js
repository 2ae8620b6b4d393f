// Draws how the values of a column are distributed, drawn ones beside real ones: shares of bins or of categories.

import { h, number, svg } from "/pages/dom.js";

const WIDTH = 240;
const HEIGHT = 96;
const BINS = 16;

// `column` is as the API describes it; `real` may be empty.
export function makeHistogram(column, drawn, real) {
  const bins = column.type === "category" ? categories(column, drawn, real) : intervals(column, drawn, real);
  const sets = [drawn, real].filter((values) => values.length).map((values) => shares(bins, values));
  const top = Math.max(...sets.flat(), 0.001);
  const width = WIDTH / bins.length;
  const bars = sets.flatMap((set, at) =>
    set.map((share, bin) => {
      const tall = (HEIGHT * share) / top;
      const wide = Math.max(1, width / sets.length - 1);
      return svg(
        "rect",
        { x: bin * width + at * wide, y: HEIGHT - tall, width: wide, height: tall, class: at ? "real" : "drawn" },
        svg("title", {}, `${bins[bin].name}: ${number(100 * share)} %`),
      );
    }),
  );
  const text = `${column.name}: ${bins.map((bin, at) => `${bin.name} ${sets.map((set) => `${number(100 * set[at], 2)} %`).join(" against ")}`).join("; ")}`;
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "histogram", role: "img", "aria-label": text },
    bars,
  );
  const ends = h("div", { class: "ends" }, h("span", {}, bins[0].name), h("span", {}, bins.at(-1).name));
  return h(
    "figure",
    { class: "cell" },
    h("figcaption", { title: column.description || null }, column.name),
    picture,
    ends,
  );
}

function categories(column, drawn, real) {
  const known = column.categories ?? [...new Set([...drawn, ...real].map(String))];
  return known.map((name) => ({ name: String(name), has: (value) => String(value) === String(name) }));
}

function intervals(column, drawn, real) {
  const values = [...drawn, ...real].map(Number).filter(Number.isFinite);
  const low = values.reduce((least, value) => Math.min(least, value), column.minimum ?? Infinity);
  const high = values.reduce((most, value) => Math.max(most, value), column.maximum ?? -Infinity);
  const count = column.type === "integer" ? Math.min(BINS, high - low + 1) : BINS;
  const step = (high - low) / count || 1;
  return Array.from({ length: Math.max(1, count) }, (_, at) => {
    const from = low + at * step;
    const isLast = at === count - 1;
    return {
      name: number(isLast ? high : from),
      has: (value) => Number(value) >= from && (isLast || Number(value) < from + step),
    };
  });
}

function shares(bins, values) {
  return bins.map((bin) => values.filter(bin.has).length / values.length);
}

// Plots a series and what may follow it: bands between quantiles, the median, the mean, and what came if it is known.

import { h, number, svg } from "/pages/dom.js";

const NARROWEST = 280;
const HEIGHT = 280;
const MARGIN = { left: 52, right: 12, top: 12, bottom: 28 };

// Times are numbers or texts of ISO 8601. `later` are values that did come, or none; `room` is in pixels.
export function plotForecast({ times, values }, forecast, later, room) {
  const width = Math.max(NARROWEST, room);
  const clock = clockOf([...times, ...forecast.times]);
  const seen = clock.slice(0, values.length);
  const ahead = clock.slice(values.length);
  const paths = [...forecast.quantiles].sort((a, b) => a.level - b.level);
  const all = [...values, ...later, ...forecast.mean, ...paths.flatMap((path) => path.values)];
  const x = scale(clock[0], clock.at(-1), MARGIN.left, width - MARGIN.right);
  const y = scale(Math.min(...all), Math.max(...all), HEIGHT - MARGIN.bottom, MARGIN.top);
  const joined = (list) => [values.at(-1), ...list];
  const from = [seen.at(-1), ...ahead];
  const parts = [
    ...axes(
      width,
      y,
      all,
      [times[0], times.at(-1), forecast.times.at(-1)].map((name, at) => [
        name,
        x([seen[0], seen.at(-1), ahead.at(-1)][at]),
      ]),
    ),
  ];
  for (let at = 0; at < Math.floor(paths.length / 2); at++) {
    const upper = points(from, joined(paths.at(-1 - at).values), x, y);
    const lower = points(from, joined(paths[at].values), x, y).reverse();
    parts.push(
      svg(
        "polygon",
        { points: [...upper, ...lower].join(" "), class: "band" },
        svg("title", {}, `from ${paths[at].level} to ${paths.at(-1 - at).level}`),
      ),
    );
  }
  const line = (when, what, name) =>
    parts.push(svg("polyline", { points: points(when, what, x, y).join(" "), class: `line ${name}` }));
  line(seen, values, "seen");
  line(from, joined(forecast.mean), "mean");
  const middle = paths.find((path) => path.level === 0.5);
  if (middle) line(from, joined(middle.values), "median");
  if (later.length) line(from, joined(later.slice(0, ahead.length)), "later");
  const text = `Forecast of ${ahead.length} values after ${values.length}; the last mean is ${number(forecast.mean.at(-1))}`;
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, class: "plot", role: "img", "aria-label": text, "data-testid": "plot" },
    parts,
  );
  const keys = [
    ["seen", "given"],
    ["median", "median"],
    ["mean", "mean"],
    ...(later.length ? [["later", "what came"]] : []),
  ];
  const bands =
    paths.length > 1 ? [h("span", { class: "key band" }, `${paths[0].level} to ${paths.at(-1).level}`)] : [];
  return h(
    "figure",
    {},
    picture,
    h(
      "figcaption",
      { class: "legend" },
      keys.map(([name, says]) => h("span", { class: `key ${name}` }, says)),
      bands,
    ),
  );
}

function clockOf(times) {
  const clock = times.map((time) => (typeof time === "number" ? time : Date.parse(time)));
  return clock.every(Number.isFinite) ? clock : times.map((_, at) => at);
}

function scale(low, high, from, to) {
  const size = high - low || 1;
  return (value) => from + ((value - low) / size) * (to - from);
}

function points(when, what, x, y) {
  return what.map((value, at) => `${x(when[at]).toFixed(1)},${y(value).toFixed(1)}`);
}

function axes(width, y, all, names) {
  const low = Math.min(...all);
  const high = Math.max(...all);
  const heights = [low, (low + high) / 2, high].flatMap((value) => [
    svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value), class: "rule" }),
    svg("text", { x: MARGIN.left - 6, y: y(value) + 4, class: "tick end" }, number(value)),
  ]);
  const anchors = ["start", "middle", "end"];
  const places = names.map(([name, x], at) =>
    svg("text", { x, y: HEIGHT - 8, "text-anchor": anchors[at], class: "tick" }, String(name)),
  );
  return [...heights, ...places];
}

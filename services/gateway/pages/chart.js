// A small live chart: the last minutes of one figure, with its newest value beside it.

import { h, number, svg } from "/pages/dom.js";

const WIDTH = 150;
const HEIGHT = 40;
const MOST = 150; // points: five minutes of one every two seconds

// `isStepped`: the figure is a count that jumps.
export function makeChart(title, unit, { isStepped = false } = {}) {
  const points = [];
  const line = svg("polyline", { class: "line seen", points: "" });
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      class: "spark",
      role: "img",
      "aria-label": title,
      preserveAspectRatio: "none",
    },
    line,
  );
  const value = h("span", { class: "now" }, "–");

  function add(next) {
    points.push(next);
    if (points.length > MOST) points.shift();
    line.setAttribute("points", path(points, isStepped));
    const known = points.filter((point) => point !== null);
    value.textContent = next === null ? "–" : `${number(next)}${unit}`;
    const range = known.length
      ? `; from ${number(Math.min(...known))} to ${number(Math.max(...known))} in what is shown`
      : "";
    picture.setAttribute("aria-label", `${title}: ${value.textContent}${range}`);
  }

  return { element: h("div", { class: "chart" }, h("span", { class: "name" }, title), value, picture), add };
}

function path(points, isStepped) {
  const top = Math.max(...points.map((point) => point ?? 0), 1e-9);
  const y = (point) => (HEIGHT - 2 - ((HEIGHT - 4) * (point ?? 0)) / top).toFixed(1);
  const x = (at) => ((WIDTH * (at + MOST - points.length)) / (MOST - 1)).toFixed(1);
  const corners = points.map((point, at) =>
    isStepped && at ? `${x(at)},${y(points[at - 1])} ${x(at)},${y(point)}` : `${x(at)},${y(point)}`,
  );
  return corners.join(" ");
}

// Draws a tune as a score of one staff: clef, signature, notes with stems, flags, dots and beams, bar lines.

import { changed, fraction, readTune } from "/pages/abc.js";
import { svg } from "/pages/dom.js";

const GAP = 8; // between two lines of the staff
const STAFF = 88; // from one staff to the next
const TOP = 32;
const WIDTH = 760;
const BARS = 4; // a line
const E4 = 2; // the step of the lowest line
const SHARP_STEPS = { F: 10, C: 7, G: 11, D: 8, A: 5, E: 9, B: 6 };
const FLAT_STEPS = { B: 6, E: 9, A: 5, D: 8, G: 4, C: 7, F: 3 };
const MARKS = { "^": "♯", _: "♭", "=": "♮", "^^": "𝄪", __: "♭♭" };
const CLEF =
  "M10 44c-6 1-8-5-4-8 3-3 9-1 9 4 0 8-14 8-14-3 0-10 15-15 15-28 0-5-3-8-5-4-3 6 0 14 2 24l4 22c1 6-7 8-8 3 0-3 3-4 4-2";

export function drawScore(abc, text) {
  const tune = readTune(abc);
  const rows = [];
  for (let at = 0; at < tune.bars.length; at += BARS) rows.push(tune.bars.slice(at, at + BARS));
  const height = TOP + STAFF * rows.length;
  const drawn = rows.map((bars, row) => drawRow(tune, bars, row, row === rows.length - 1));
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${height}`, class: "score", role: "img", "aria-label": text, "data-testid": "score" },
    drawn,
  );
}

function drawRow(tune, bars, row, isLast) {
  const bottom = TOP + row * STAFF + 4 * GAP;
  const y = (step) => bottom - ((step - E4) * GAP) / 2;
  const parts = [0, 1, 2, 3, 4].map((line) =>
    svg("line", { x1: 4, x2: WIDTH - 4, y1: bottom - line * GAP, y2: bottom - line * GAP, class: "rule" }),
  );
  parts.push(svg("path", { d: CLEF, transform: `translate(8 ${bottom - 43})`, class: "clef" }));
  let left = 34;
  const steps = tune.signature >= 0 ? SHARP_STEPS : FLAT_STEPS;
  for (const letter of changed(tune.signature)) {
    parts.push(svg("text", { x: left, y: y(steps[letter]) + 5, class: "mark" }, tune.signature > 0 ? "♯" : "♭"));
    left += 8;
  }
  if (row === 0) {
    const [above, below] = tune.meter.split("/");
    parts.push(
      svg("text", { x: left + 4, y: bottom - 2 * GAP - 1, class: "meter" }, above),
      svg("text", { x: left + 4, y: bottom - 1, class: "meter" }, below ?? ""),
    );
    left += 22;
  }
  left += 8;
  const room = (WIDTH - 8 - left) / Math.max(bars.length, 1);
  bars.forEach((bar, at) => {
    parts.push(...drawBar(bar, left + at * room, room, y, fraction(tune.meter)));
    const end = left + (at + 1) * room;
    parts.push(svg("line", { x1: end, x2: end, y1: bottom - 4 * GAP, y2: bottom, class: "barline" }));
    if (isLast && at === bars.length - 1)
      parts.push(svg("rect", { x: end + 2, y: bottom - 4 * GAP, width: 3, height: 4 * GAP, class: "ink" }));
  });
  return parts;
}

function drawBar(bar, left, room, y, whole) {
  const parts = [];
  const widths = bar.map((note) => 0.6 + Math.sqrt(note.length * 8) * 0.7);
  const unit = (room - 14) / widths.reduce((sum, width) => sum + width, 0);
  let x = left + 12;
  let time = 0;
  const placed = bar.map((note, at) => {
    const here = { ...note, x, y: y(note.step), beat: Math.floor(time / (whole % 0.375 === 0 ? 0.375 : 0.25) + 1e-6) };
    x += widths[at] * unit;
    time += note.inTriplet ? (note.length * 2) / 3 : note.length;
    return here;
  });
  for (const note of placed) parts.push(...(note.isRest ? drawRest(note, y) : drawHead(note, y)));
  for (const group of beams(placed)) parts.push(...drawStems(group));
  return parts;
}

// Neighbours shorter than a quarter within a beat share a beam; every other note stands alone.
function beams(notes) {
  const groups = [];
  let before = null;
  for (const note of notes) {
    const joins =
      before &&
      !note.isRest &&
      !before.isRest &&
      note.length < 0.25 &&
      before.length < 0.25 &&
      note.beat === before.beat;
    if (joins) groups.at(-1).push(note);
    else if (!note.isRest) groups.push([note]);
    before = note;
  }
  return groups;
}

function drawHead(note, y) {
  const parts = [];
  for (let step = E4 - 2; step >= note.step; step -= 2) parts.push(ledger(note.x, y(step)));
  for (let step = E4 + 10; step <= note.step; step += 2) parts.push(ledger(note.x, y(step)));
  const kind = note.length >= 0.5 ? "head open" : "head";
  parts.push(
    svg("ellipse", {
      cx: note.x,
      cy: note.y,
      rx: 4.6,
      ry: 3.3,
      transform: `rotate(-20 ${note.x} ${note.y})`,
      class: kind,
    }),
  );
  if (note.accidental)
    parts.push(svg("text", { x: note.x - 13, y: note.y + 5, class: "mark" }, MARKS[note.accidental] ?? ""));
  if (isDotted(note.length)) parts.push(svg("circle", { cx: note.x + 8, cy: note.y - 2, r: 1.5, class: "ink" }));
  if (note.inTriplet) parts.push(svg("text", { x: note.x - 2, y: note.y - 26, class: "tick" }, "3"));
  return parts;
}

function ledger(x, at) {
  return svg("line", { x1: x - 7, x2: x + 7, y1: at, y2: at, class: "rule" });
}

function isDotted(length) {
  return Number.isInteger(Math.log2(length / 1.5));
}

function drawRest(note, y) {
  const middle = y(E4 + 4);
  if (note.length >= 0.5)
    return [
      svg("rect", { x: note.x - 5, y: middle - (note.length >= 1 ? GAP : 4), width: 10, height: 4, class: "ink" }),
    ];
  return [svg("path", { d: `M${note.x - 2} ${middle - 10}l5 6-4 5 5 7c-5-2-6 1-3 4`, class: "rest" })];
}

function drawStems(group) {
  const stemmed = group.filter((note) => note.length < 1);
  if (!stemmed.length) return [];
  const mean = stemmed.reduce((sum, note) => sum + note.step, 0) / stemmed.length;
  const up = mean < E4 + 4;
  const side = up ? 4.2 : -4.2;
  const tip = up ? Math.min(...stemmed.map((note) => note.y)) - 24 : Math.max(...stemmed.map((note) => note.y)) + 24;
  const end = (note) => (group.length > 1 ? tip : note.y + (up ? -26 : 26));
  const parts = stemmed.map((note) =>
    svg("line", { x1: note.x + side, x2: note.x + side, y1: note.y, y2: end(note), class: "stem" }),
  );
  if (group.length === 1) return [...parts, ...flags(group[0], group[0].x + side, end(group[0]), up)];
  const down = up ? 1 : -1;
  parts.push(beam(stemmed[0].x + side, stemmed.at(-1).x + side, tip, down));
  stemmed.forEach((note, at) => {
    if (note.length >= 0.125) return;
    const next = stemmed[at + 1]?.length < 0.125 ? stemmed[at + 1].x + side : null;
    const last = stemmed[at - 1]?.length < 0.125;
    if (next !== null) parts.push(beam(note.x + side, next, tip + 5 * down, down));
    else if (!last) parts.push(beam(note.x + side - (at ? 6 : 0), note.x + side + (at ? 0 : 6), tip + 5 * down, down));
  });
  return parts;
}

function beam(x1, x2, y, down) {
  return svg("rect", { x: x1, y: down > 0 ? y : y - 3, width: Math.max(1, x2 - x1), height: 3, class: "ink" });
}

function flags(note, x, y, up) {
  const count = note.length >= 0.25 ? 0 : note.length >= 0.125 ? 1 : 2;
  const turn = up ? 1 : -1;
  return Array.from({ length: count }, (_, at) =>
    svg("path", { d: `M${x} ${y + 6 * at * turn}q1 ${6 * turn} 6 ${11 * turn}`, class: "stem" }),
  );
}

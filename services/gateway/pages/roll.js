// Draws a piano roll: a bar for each note, and a line that follows an audio element.

import { svg } from "/pages/dom.js";

const NARROWEST = 280;
const HEIGHT = 160;

// `room` is in pixels.
export function makeRoll(notes, seconds, audio, text, room) {
  const width = Math.max(NARROWEST, room);
  const pitches = notes.map((note) => note.pitch);
  const low = Math.min(...pitches) - 1;
  const high = Math.max(...pitches) + 1;
  const row = HEIGHT / (high - low + 1);
  const x = (time) => (width * time) / Math.max(seconds, 0.01);
  const y = (pitch) => HEIGHT - (pitch - low + 1) * row;
  const lines = [];
  for (let pitch = low; pitch <= high; pitch++) {
    if (pitch % 12 === 0)
      lines.push(
        svg("line", { x1: 0, x2: width, y1: y(pitch) + row, y2: y(pitch) + row, class: "rule" }),
        svg("text", { x: 2, y: y(pitch) + row - 2, class: "tick" }, `C${pitch / 12 - 1}`),
      );
  }
  const bars = notes.map((note) =>
    svg("rect", {
      x: x(note.start),
      y: y(note.pitch),
      width: Math.max(1, x(note.end) - x(note.start) - 1),
      height: Math.max(2, row - 1),
      class: "note",
    }),
  );
  const head = svg("line", { x1: 0, x2: 0, y1: 0, y2: HEIGHT, class: "playhead" });
  follow(audio, (time) => {
    head.setAttribute("x1", x(time));
    head.setAttribute("x2", x(time));
  });
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, class: "roll", role: "img", "aria-label": text, "data-testid": "piano-roll" },
    lines,
    bars,
    head,
  );
}

function follow(audio, move) {
  if (!audio) return;
  const step = () => {
    move(audio.currentTime);
    if (!audio.paused && audio.isConnected) requestAnimationFrame(step);
  };
  for (const name of ["play", "seeked", "pause"]) audio.addEventListener(name, step);
}

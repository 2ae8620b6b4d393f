// A surface to paint on with pointer, touch or keyboard: digits to be read, and masks over a picture.

import { button, h, labelled } from "/pages/dom.js";

const SIDE = 336;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `ink` is a colour of CSS; `ground` is what lies under the ink, an image or null; `ended` is called after each stroke.
export function makePainter(text, { ink = "#ffffff", paper = "#000000", brush = 24, ended = () => {} } = {}) {
  const canvas = h("canvas", {
    width: SIDE,
    height: SIDE,
    class: "paint pixels",
    tabindex: "0",
    role: "application",
    "data-testid": "paint",
  });
  canvas.setAttribute(
    "aria-label",
    `${text}: paint with the pointer, or move with the arrow keys and hold Shift to paint`,
  );
  const layer = h("canvas", { width: SIDE, height: SIDE });
  const strokes = layer.getContext("2d");
  const shown = canvas.getContext("2d");
  const size = h("input", { type: "range", min: 4, max: 80, value: brush, "data-testid": "brush" });
  let ground = null;
  let last = null;
  let cursor = [SIDE / 2, SIDE / 2];
  let isPainted = false;

  function redraw() {
    shown.imageSmoothingEnabled = false;
    shown.fillStyle = paper;
    shown.fillRect(0, 0, SIDE, SIDE);
    if (ground) shown.drawImage(ground, 0, 0, SIDE, SIDE);
    shown.globalAlpha = ground ? 0.7 : 1;
    shown.drawImage(layer, 0, 0);
    shown.globalAlpha = 1;
    if (document.activeElement === canvas && canvas.matches(":focus-visible")) ring();
  }

  function ring() {
    shown.strokeStyle = "#e0572e";
    shown.lineWidth = 2;
    shown.beginPath();
    shown.arc(...cursor, Number(size.value) / 2, 0, 2 * Math.PI);
    shown.stroke();
  }

  function stroke(from, to) {
    strokes.strokeStyle = ink;
    strokes.lineWidth = Number(size.value);
    strokes.lineCap = "round";
    strokes.beginPath();
    strokes.moveTo(...from);
    strokes.lineTo(to[0] + 0.01, to[1]);
    strokes.stroke();
    isPainted = true;
    redraw();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event);
    stroke(last, next);
    last = next;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      if (last) ended();
      last = null;
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    const step = 12;
    const next = move ? cursor.map((at, axis) => Math.min(SIDE, Math.max(0, at + step * move[axis]))) : cursor;
    if (event.shiftKey || !move) stroke(cursor, next);
    cursor = next;
    redraw();
  });
  canvas.addEventListener("keyup", (event) => (event.key === "Shift" || event.key === " ") && ended());
  canvas.addEventListener("focus", redraw);
  canvas.addEventListener("blur", redraw);

  function clear() {
    strokes.clearRect(0, 0, SIDE, SIDE);
    isPainted = false;
    redraw();
  }

  function under(image) {
    ground = image;
    redraw();
  }

  redraw();
  return {
    element: h(
      "div",
      { class: "painter" },
      canvas,
      labelled("Brush", size),
      button("Clear", clear, { class: "quiet", "data-testid": "clear" }),
    ),
    clear,
    under,
    isPainted: () => isPainted,
    // The ink alone, of this size: transparent where nothing is painted.
    layer: (width, height) => scaled(layer, width, height),
    side: SIDE,
  };
}

export function scaled(source, width, height, box = [0, 0, source.width, source.height], into = [0, 0, width, height]) {
  const canvas = h("canvas", { width, height });
  const target = canvas.getContext("2d");
  target.imageSmoothingQuality = "high";
  target.drawImage(source, ...box, ...into);
  return canvas;
}

// A mask as the API takes it: transparent where the image may change, opaque where it stays.
export function maskOf(painter, width, height) {
  const canvas = painter.layer(width, height);
  const target = canvas.getContext("2d");
  const pixels = target.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const stays = pixels.data[at + 3] < 128;
    pixels.data.set([0, 0, 0, stays ? 255 : 0], at);
  }
  target.putImageData(pixels, 0, 0);
  return canvas.toDataURL("image/png");
}

// Plays samples as they come, one piece after the other, and draws their wave.

import { h } from "/pages/dom.js";

const LEAD_S = 0.15; // of silence before the first piece, so that the next is there in time

export class StreamPlayer {
  constructor() {
    this.context = new AudioContext();
    this.ends = 0;
  }

  play(samples, rate) {
    if (!samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    const begins = Math.max(this.ends, this.context.currentTime + (this.ends ? 0 : LEAD_S));
    source.start(begins);
    this.ends = begins + buffer.duration;
  }

  close() {
    return this.context.state === "closed" ? null : this.context.close();
  }
}

export function makeWave(text) {
  const canvas = h("canvas", { class: "wave", width: 640, height: 80, role: "img", "aria-label": text });
  return { element: canvas, draw: (samples) => draw(canvas, samples) };
}

function draw(canvas, samples) {
  const target = canvas.getContext("2d");
  const { width, height } = canvas;
  target.clearRect(0, 0, width, height);
  target.fillStyle = getComputedStyle(canvas).color;
  const step = Math.max(1, samples.length / width);
  for (let x = 0; x < width && x * step < samples.length; x++) {
    let peak = 0;
    for (let at = Math.floor(x * step); at < (x + 1) * step && at < samples.length; at++)
      peak = Math.max(peak, Math.abs(samples[at]));
    const tall = Math.max(1, peak * height);
    target.fillRect(x, (height - tall) / 2, 1, tall);
  }
}

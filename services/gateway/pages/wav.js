// Reads and writes sound of 16 bits: WAV, or bare samples. What comes in pieces is read as it comes.

// Feed it bytes; it gives the first channel's new samples. `rate` is known once the header is there, or is given: bare samples.
export class SoundReader {
  constructor(rate = 0) {
    this.rate = rate;
    this.channels = 1;
    this.rest = new Uint8Array();
  }

  push(bytes) {
    this.rest = joined([this.rest, bytes]);
    if (!this.rate && !this.readHeader()) return new Float32Array();
    const size = 2 * this.channels;
    const count = Math.floor(this.rest.length / size);
    const view = new DataView(this.rest.buffer, this.rest.byteOffset);
    const samples = Float32Array.from({ length: count }, (_, at) => view.getInt16(at * size, true) / 32768);
    this.rest = this.rest.slice(count * size);
    return samples;
  }

  // Reads chunk after chunk until the samples begin; false if they are not there yet.
  readHeader() {
    const view = new DataView(this.rest.buffer, this.rest.byteOffset);
    let rate = 0;
    for (let at = 12; at + 8 <= this.rest.length;) {
      const name = String.fromCharCode(...this.rest.slice(at, at + 4));
      const size = view.getUint32(at + 4, true);
      if (name === "data") {
        this.rate = rate;
        this.rest = this.rest.slice(at + 8);
        return true;
      }
      if (name === "fmt " && at + 24 <= this.rest.length) {
        this.channels = view.getUint16(at + 10, true);
        rate = view.getUint32(at + 12, true);
      }
      at += 8 + size + (size % 2);
    }
    return false;
  }
}

export function writeWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, at) => view.setInt16(44 + 2 * at, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view.buffer], { type: "audio/wav" });
}

export function joined(arrays) {
  const all = new arrays[0].constructor(arrays.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of arrays) {
    all.set(each, at);
    at += each.length;
  }
  return all;
}

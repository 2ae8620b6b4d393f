// Reads the notes of a MIDI file: when each begins and ends in seconds, and its pitch.

export function readNotes(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const division = view.getUint16(12);
  const notes = [];
  let secondsPerTick = 0.5 / division; // 120 beats a minute, until the file says
  for (let at = 14; at + 8 <= bytes.length;) {
    const end = at + 8 + view.getUint32(at + 4);
    readTrack(bytes.subarray(at + 8, end), notes, (micros) => (secondsPerTick = micros / 1e6 / division));
    at = end;
  }
  return notes.map(({ pitch, start, end }) => ({ pitch, start: start * secondsPerTick, end: end * secondsPerTick }));
}

// Times are in ticks. One tempo for the whole file: that of its last tempo event.
function readTrack(bytes, notes, setTempo) {
  const sounding = new Map();
  let at = 0;
  let tick = 0;
  let status = 0;
  const length = () => {
    let value = 0;
    for (;;) {
      const byte = bytes[at++];
      value = (value << 7) | (byte & 0x7f);
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    tick += length();
    if (bytes[at] >= 0x80) status = bytes[at++];
    if (status === 0xff || status >= 0xf0) {
      const kind = status === 0xff ? bytes[at++] : 0;
      const size = length();
      if (kind === 0x51) setTempo((bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2]);
      at += size;
      continue;
    }
    const command = status & 0xf0;
    const pitch = bytes[at];
    const velocity = bytes[at + 1];
    at += command === 0xc0 || command === 0xd0 ? 1 : 2;
    if (command !== 0x90 && command !== 0x80) continue;
    if (sounding.has(pitch)) notes.push({ pitch, start: sounding.get(pitch), end: tick });
    sounding.delete(pitch);
    if (command === 0x90 && velocity > 0) sounding.set(pitch, tick);
  }
}

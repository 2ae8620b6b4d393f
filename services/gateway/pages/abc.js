// Reads a tune of one voice in ABC: its header, and bars of notes with their place on the staff and their length.

const LETTERS = "CDEFGAB";
const TOKEN = /(\|\]|\|\||\|:|:\||\||\[\|)|\((\d)|([_^=]{0,2})([A-Ga-gz])([,']*)(\d*)(\/*)(\d*)(-?)|"[^"]*"|[\s\\]+|./g;
const SHARPS = "FCGDAEB";
const MODES = { "": 0, maj: 0, ion: 0, m: -3, min: -3, aeo: -3, dor: -2, mix: -1, lyd: 1, phr: -4, loc: -5 };
const FIFTHS = { F: -1, C: 0, G: 1, D: 2, A: 3, E: 4, B: 5 };

// {header, signature, unit, meter, bars}: lengths are in whole notes; `step` counts from C of the octave of C4 = 0.
export function readTune(text) {
  const header = {};
  const body = [];
  for (const line of text.split("\n")) {
    const field = /^([A-Za-z]):(.*)$/.exec(line);
    if (field) header[field[1]] = field[2].trim();
    else body.push(line);
  }
  const unit = fraction(header.L ?? "1/8");
  return {
    header,
    signature: signatureOf(header.K ?? "C"),
    meter: header.M ?? "4/4",
    bars: readBars(body.join("\n"), unit),
  };
}

function readBars(body, unit) {
  const bars = [];
  let bar = [];
  let tuplet = 0;
  for (const [, line, triplet, accidental, letter, octave, times, slashes, over] of body.matchAll(TOKEN)) {
    if (line) {
      if (bar.length) bars.push(bar);
      bar = [];
    } else if (triplet) {
      tuplet = Number(triplet);
    } else if (letter) {
      const divisor = over ? Number(over) : 2 ** slashes.length;
      const length = (unit * Number(times || 1)) / divisor;
      bar.push({ step: stepOf(letter, octave), isRest: letter === "z", accidental, length, inTriplet: tuplet > 0 });
      tuplet = Math.max(0, tuplet - 1);
    }
  }
  if (bar.length) bars.push(bar);
  return bars;
}

function stepOf(letter, octave) {
  if (letter === "z") return 6;
  const up = letter === letter.toLowerCase() ? 7 : 0;
  return (
    LETTERS.indexOf(letter.toUpperCase()) + up + [...octave].reduce((sum, mark) => sum + (mark === "'" ? 7 : -7), 0)
  );
}

// Sharps (more than 0) or flats (less) of a key such as G, Em, Ador, Bbmix.
function signatureOf(key) {
  const found = /^([A-G])([#b]?)\s*([A-Za-z]*)/.exec(key);
  if (!found) return 0;
  const mode = found[3].toLowerCase();
  const turn = MODES[mode] ?? MODES[mode.slice(0, 3)] ?? 0;
  return FIFTHS[found[1]] + (found[2] === "#" ? 7 : found[2] === "b" ? -7 : 0) + turn;
}

// The letters that a signature changes, in its order.
export function changed(signature) {
  return signature >= 0 ? [...SHARPS].slice(0, signature) : [...SHARPS].reverse().slice(0, -signature);
}

export function fraction(text) {
  const [above, below = 1] = text.split("/").map(Number);
  return above / below;
}

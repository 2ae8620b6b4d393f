// Reads and writes JSON whose seeds have up to 64 bits: more than a number of JavaScript holds. Such a seed is a string.

const LONG = /(?<!\\)"seed": ?(-?\d{16,})/g;
const QUOTED = /(?<!\\)"seed":"(-?\d+)"/g;

export function parse(text) {
  return JSON.parse(text.replace(LONG, '"seed":"$1"'));
}

export function write(body, space) {
  return JSON.stringify(body, null, space)
    .replace(/(?<!\\)"seed": "(-?\d+)"/g, '"seed": $1')
    .replace(QUOTED, '"seed":$1');
}

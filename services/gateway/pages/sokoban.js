// The rules of a level that is played: a player who pushes boxes onto goals. Never draws.

export const STEPS = { up: [0, -1], down: [0, 1], left: [-1, 0], right: [1, 0] };
const KNOWN = /^[#@$.*+ \n-]*$/;

export function isLevel(text) {
  return KNOWN.test(text) && /[@+]/.test(text);
}

export class Game {
  constructor(text) {
    const rows = text.split("\n");
    this.height = rows.length;
    this.width = Math.max(...rows.map((row) => row.length));
    this.walls = new Set();
    this.goals = new Set();
    this.boxes = new Set();
    this.past = [];
    rows.forEach((row, y) => [...row].forEach((tile, x) => this.lay(tile, this.at(x, y))));
  }

  at(x, y) {
    return y * this.width + x;
  }

  lay(tile, place) {
    if (tile === "#") this.walls.add(place);
    if (".*+".includes(tile)) this.goals.add(place);
    if ("$*".includes(tile)) this.boxes.add(place);
    if ("@+".includes(tile)) this.player = place;
  }

  // One step, pushing a box that is in the way. Says whether anything moved.
  move([dx, dy]) {
    const shift = this.at(dx, dy);
    const x = this.player % this.width;
    if (x + dx < 0 || x + dx >= this.width) return false;
    const next = this.player + shift;
    const beyond = next + shift;
    const isPush = this.boxes.has(next);
    if (!this.isInside(next) || this.walls.has(next)) return false;
    if (
      isPush &&
      (!this.isInside(beyond) ||
        this.walls.has(beyond) ||
        this.boxes.has(beyond) ||
        x + 2 * dx < 0 ||
        x + 2 * dx >= this.width)
    )
      return false;
    this.past.push({ player: this.player, box: isPush ? [next, beyond] : null });
    if (isPush) this.push(next, beyond);
    this.player = next;
    return true;
  }

  push(from, to) {
    this.boxes.delete(from);
    this.boxes.add(to);
  }

  undo() {
    const last = this.past.pop();
    if (!last) return false;
    this.player = last.player;
    if (last.box) this.push(last.box[1], last.box[0]);
    return true;
  }

  isInside(place) {
    return place >= 0 && place < this.width * this.height;
  }

  get moves() {
    return this.past.length;
  }

  get placed() {
    return [...this.boxes].filter((box) => this.goals.has(box)).length;
  }

  get isSolved() {
    return this.boxes.size > 0 && this.placed === this.boxes.size;
  }
}

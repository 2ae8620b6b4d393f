// The panel of levels: tile maps, of which one can be played with the arrow keys.

import { lines } from "/pages/api.js";
import { button, facts, h } from "/pages/dom.js";
import { Game, isLevel, STEPS } from "/pages/sokoban.js";
import { blobOf, jsonFile } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

const TILE = 32;
const KEYS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };
const MOVES = { u: "up", d: "down", l: "left", r: "right" };
const ARROWS = { left: "←", up: "↑", down: "↓", right: "→" };

export function mount(place, context) {
  let board = null;
  const bench = makeWorkbench(context, {
    label: "Draw",
    shown: ["n", "seed", "temperature", "attempts"],
    usual: { n: 6 },
    body: () => ({ stream: true }),
    show,
  });
  place.replaceChildren(bench.element);

  async function show(response, _, { output, toolbar }) {
    const levels = [];
    const stage = h("div", { class: "stage", "data-testid": "stage" });
    const choice = h("div", { class: "grid", "data-testid": "levels" });
    output.replaceChildren(stage, choice);
    const play = (level) => {
      board?.end();
      board = makeBoard(level);
      stage.replaceChildren(board.element);
    };
    const pick = (level) => {
      play(level);
      stage.querySelector("[tabindex]").focus(); // in sight, and ready for the arrow keys
    };
    for await (const level of lines(response)) {
      if (level.object === "list.end") break;
      levels.push(level);
      choice.append(cell(level, pick));
      if (levels.length === 1) play(level);
    }
    toolbar.offers([
      jsonFile(
        "levels.json",
        levels.map((level) => ({ ...level, b64_json: undefined })),
      ),
      ...levels
        .filter((level) => level.b64_json)
        .map((level) => ({ name: `level-${level.seed}.png`, blob: blobOf(level.b64_json, "image/png") })),
    ]);
  }

  return () => {
    bench.stop();
    board?.end();
  };
}

function cell(level, pick) {
  const picture = level.b64_json
    ? h("img", {
        class: "pixels",
        alt: `Level of seed ${level.seed}, ${level.width} by ${level.height}`,
        src: `data:image/png;base64,${level.b64_json}`,
        width: 160,
        height: 160,
      })
    : h("pre", {}, level.text);
  const told = facts([
    ["Playable", level.playable],
    ["Well-formed", level.well_formed ? "yes" : "no"],
    ["Solution", level.solution ? `${level.solution.length} moves` : null],
    ["Seed", level.seed],
  ]);
  return h(
    "figure",
    { class: "cell" },
    picture,
    told,
    button("Play", () => pick(level), { "data-testid": "play" }),
  );
}

// A level on the stage. Tiles that are not of the game are shown as they are.
function makeBoard(level) {
  if (!isLevel(level.text)) return { element: h("pre", { tabindex: "0" }, level.text), end: () => {} };
  let game = new Game(level.text);
  let showing = 0;
  const canvas = h("canvas", {
    class: "board",
    width: game.width * TILE,
    height: game.height * TILE,
    tabindex: "0",
    role: "application",
    onkeydown: press,
    "data-testid": "board",
  });
  canvas.setAttribute(
    "aria-label",
    `Level of seed ${level.seed}: the arrow keys move, U takes a move back, R starts again`,
  );
  const told = h("p", { role: "status", class: "status", "data-testid": "game-status" });
  const arrows = Object.keys(ARROWS).map((way) =>
    button(ARROWS[way], () => step(way), { "aria-label": `Move ${way}`, class: "arrow" }),
  );
  const tools = [
    button("Undo", undo, { class: "quiet" }),
    button("Start again", restart, { class: "quiet" }),
    level.solution ? button("Show the solution", show, { class: "quiet", "data-testid": "solution" }) : null,
  ];

  function press(event) {
    const way = KEYS[event.key];
    const other = { u: undo, r: restart }[event.key.toLowerCase()];
    if ((!way && !other) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    end();
    if (way) step(way);
    else other();
  }

  function step(way) {
    game.move(STEPS[way]);
    redraw();
  }

  function undo() {
    game.undo();
    redraw();
  }

  function restart() {
    end();
    game = new Game(level.text);
    redraw();
  }

  function show() {
    restart();
    const moves = [...level.solution.toLowerCase()].map((letter) => MOVES[letter]);
    showing = setInterval(() => (moves.length && canvas.isConnected ? step(moves.shift()) : end()), 200);
  }

  function end() {
    clearInterval(showing);
  }

  function redraw() {
    draw(canvas, game);
    told.textContent = game.isSolved
      ? `Solved in ${game.moves} moves.`
      : `${game.moves} moves, ${game.placed} of ${game.boxes.size} boxes on goals.`;
  }

  requestAnimationFrame(redraw); // once it is in the page, whose colours it takes
  return { element: h("div", {}, canvas, told, h("div", { class: "tools" }, arrows, tools)), end };
}

function draw(canvas, game) {
  const target = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const tile = (place, name, inset = 0, isRound = false) => {
    const x = (place % game.width) * TILE;
    const y = Math.floor(place / game.width) * TILE;
    target.fillStyle = colour(name);
    target.beginPath();
    if (isRound) target.arc(x + TILE / 2, y + TILE / 2, TILE / 2 - inset, 0, 2 * Math.PI);
    else target.rect(x + inset, y + inset, TILE - 2 * inset, TILE - 2 * inset);
    target.fill();
  };
  target.fillStyle = colour("floor");
  target.fillRect(0, 0, canvas.width, canvas.height);
  for (const wall of game.walls) tile(wall, "wall");
  for (const goal of game.goals) tile(goal, "goal", 11, true);
  for (const box of game.boxes) tile(box, game.goals.has(box) ? "placed" : "box", 4);
  tile(game.player, "player", 6, true);
}

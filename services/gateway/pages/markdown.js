// Shows the Markdown of model cards: headings, paragraphs, lists, tables, code, links and images, as elements.

import { h, table } from "/pages/dom.js";

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|!\[([^\]]*)\]\(([^)\s]+)\)|\[([^\]]*)\]\(([^)\s]+)\)/g;

// `pictures` are URLs by the paths that the text uses. Headings begin at level `first`.
export function render(markdown, pictures, first = 3) {
  const lines = markdown.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  const blocks = [];
  let title = "Table"; // of what follows: its last heading
  while (lines.length) {
    const line = lines[0];
    if (!line.trim()) lines.shift();
    else if (/^\s*```/.test(line)) blocks.push(code(lines));
    else if (line.startsWith("#")) {
      blocks.push(heading(lines.shift(), pictures, first));
      title = blocks.at(-1).textContent;
    } else if (line.startsWith("|")) blocks.push(rows(lines, pictures, title));
    else if (/^[-*] /.test(line)) blocks.push(list(lines, pictures));
    else
      blocks.push(
        h(
          "p",
          {},
          inline(taken(lines, (next) => next.trim() && !/^(#|\||[-*] |\s*```)/.test(next)).join(" "), pictures),
        ),
      );
  }
  return blocks;
}

// Takes the first line and those after it for which `goesOn`.
function taken(lines, goesOn) {
  const found = [lines.shift()];
  while (lines.length && goesOn(lines[0])) found.push(lines.shift());
  return found;
}

function code(lines) {
  const fence = lines.shift();
  const found = [];
  while (lines.length && !/^\s*```/.test(lines[0])) found.push(lines.shift());
  lines.shift();
  const indent = fence.length - fence.trimStart().length;
  return h("pre", { tabindex: "0" }, found.map((line) => line.slice(indent)).join("\n"));
}

function heading(line, pictures, first) {
  const [, marks, text] = /^(#+)\s*(.*)$/.exec(line);
  return h(`h${Math.min(6, marks.length + first - 1)}`, {}, inline(text, pictures));
}

function rows(lines, pictures, title) {
  const cells = (line) =>
    line
      .replace(/^\||\|\s*$/g, "")
      .split("|")
      .map((cell) => cell.trim());
  const found = taken(lines, (line) => line.startsWith("|")).map(cells);
  const [head, , ...body] = found;
  return table(
    title,
    head,
    body.map((row) => row.map((cell) => h("span", {}, inline(cell, pictures)))),
  );
}

function list(lines, pictures) {
  const items = [];
  while (lines.length && (/^[-*] /.test(lines[0]) || (items.length && /^(\s+\S|$)/.test(lines[0])))) {
    const line = lines[0];
    if (/^[-*] /.test(line)) items.push([inline(lines.shift().slice(2), pictures)]);
    else if (/^\s*```/.test(line)) items.at(-1).push(code(lines));
    else items.at(-1).push(inline(` ${lines.shift().trim()}`, pictures));
  }
  return h(
    "ul",
    {},
    items.map((parts) => h("li", {}, parts.flat())),
  );
}

function inline(text, pictures) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    parts.push(text.slice(at, found.index));
    at = found.index + found[0].length;
    const [, plain, strong, alt, source, label, target] = found;
    if (plain) parts.push(h("code", {}, plain));
    else if (strong) parts.push(h("strong", {}, strong));
    else if (source)
      parts.push(pictures[source] ? h("img", { class: "sheet", alt: alt || "Samples", src: pictures[source] }) : alt);
    else parts.push(/^https:\/\//.test(target) ? h("a", { href: target, rel: "noreferrer" }, label) : label);
  }
  parts.push(text.slice(at));
  return parts;
}

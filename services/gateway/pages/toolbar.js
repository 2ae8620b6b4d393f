// What every result has: copy the request as curl or Python, share its link, download what came.

import { button, h } from "/pages/dom.js";
import { write } from "/pages/exact_json.js";
import { asCurl, asPython } from "/pages/snippets.js";

export function makeToolbar() {
  let request = null;
  let address = "";
  let files = [];
  const said = h("span", { class: "said", role: "status" });
  const copies = [
    button("Copy as curl", () => copy(asCurl(request.path, request.body)), { "data-testid": "copy-curl" }),
    button("Copy as Python", () => copy(asPython(request.path, request.body)), { "data-testid": "copy-python" }),
    button("Share link", () => copy(address), { "data-testid": "share" }),
  ];
  const download = button("Download", () => files.forEach(save), { "data-testid": "download" });
  const buttons = [...copies, download];
  buttons.forEach((each) => (each.disabled = true));

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "Copied.";
    } catch {
      offer(text);
    }
  }

  // Where the browser refuses the clipboard (no HTTPS, no permission), the text is shown to be copied by hand.
  function offer(text) {
    const area = h("textarea", {
      readonly: true,
      rows: 4,
      "aria-label": "Text to copy",
      "data-testid": "copied-text",
      value: text,
    });
    said.replaceChildren(area);
    area.select();
  }

  return {
    element: h("div", { class: "toolbar", role: "group", "aria-label": "This result" }, buttons, said),
    asked(path, body, link) {
      request = { path, body };
      address = link;
      files = [];
      said.replaceChildren();
      copies.forEach((each) => (each.disabled = false));
      download.disabled = true;
    },
    // {name, blob} of each file, or a function that makes it.
    offers(named) {
      files = named;
      download.disabled = files.length === 0;
    },
  };
}

export function save({ name, blob }) {
  const url = URL.createObjectURL(typeof blob === "function" ? blob() : blob);
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

export function blobOf(base64, type) {
  return new Blob([bytesOf(base64)], { type });
}

export function jsonFile(name, value) {
  return { name, blob: () => new Blob([write(value, 2)], { type: "application/json" }) };
}

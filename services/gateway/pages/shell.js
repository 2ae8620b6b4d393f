// Starts the page: the key, and which of the two views the path asks for. Both live in one document, so the key stays.

import { useKey } from "/pages/api.js";

const VIEWS = {
  "/": { title: "Castalia playground", load: () => import("/pages/playground.js") },
  "/fleet": { title: "Castalia fleet", load: () => import("/pages/fleet.js") },
};

const view = document.getElementById("view");
const keyField = document.getElementById("key");
let leave = () => {};
let shown = "";

async function show() {
  leave();
  leave = () => {};
  const path = (shown = location.pathname);
  const { title, load } = VIEWS[path] ?? VIEWS["/"];
  document.title = title;
  for (const link of document.querySelectorAll("a[data-view]")) {
    if (link.pathname === path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const { mount } = await load();
  if (location.pathname === path) leave = (await mount(view, { askKey })) ?? leave;
}

// Draws attention to the field of the key, where the API asked for one.
function askKey() {
  keyField.placeholder = "needed here";
  keyField.focus();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-view]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.pathname === location.pathname) return;
  history.pushState(null, "", link.href);
  show();
});
addEventListener("popstate", () => {
  if (location.pathname !== shown) show(); // else the `#` alone has changed, which the view follows itself
});
document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(keyField.value);
  show();
});
show();

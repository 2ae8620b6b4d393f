// The playground: picks a model by family and a task of it, and gives the panel of that task its place.

import { getJson } from "/pages/api.js";
import { h, labelled } from "/pages/dom.js";
import { readLink, start, writeLink } from "/pages/link.js";
import { fieldsOf } from "/pages/schema.js";
import { seesImages, TASKS, tasksOf } from "/pages/tasks.js";

const STATES = {
  ready: "ready",
  loading: "loading",
  cold: "asleep: the first request wakes it",
  failed: "failed to load",
};

export async function mount(view, { askKey }) {
  const status = h("p", { class: "muted", role: "status" }, "Asking which models there are …");
  view.replaceChildren(h("h1", { class: "sr" }, "Playground"), status);
  let cards, openapi;
  try {
    const [listed, found] = await Promise.all([getJson("/v1/models"), getJson("/openapi.json")]);
    cards = listed.data.filter((card) => tasksOf(card).length);
    openapi = found;
  } catch (error) {
    status.textContent =
      error.status === 401 ? "This gateway asks for an API key: enter yours above." : `No models: ${error.message}`;
    status.className = "notice";
    if (error.status === 401) askKey();
    return () => {};
  }
  if (!cards.length) {
    status.textContent = "There is no model that this page can show.";
    return () => {};
  }
  const playground = new Playground(view, cards, openapi);
  const followed = () => playground.follow();
  addEventListener("hashchange", followed);
  await playground.follow();
  return () => {
    removeEventListener("hashchange", followed);
    playground.leave();
  };
}

class Playground {
  constructor(view, cards, openapi) {
    this.cards = cards;
    this.openapi = openapi;
    this.hand = null; // content that one panel gives to the next: an image to vary, say
    this.leave = () => {};
    this.picker = h("select", { "data-testid": "model", onchange: () => this.go(this.picker.value) }, groups(cards));
    this.state = h("p", { class: "about", "data-testid": "about" });
    this.tabs = h("div", { class: "tabs", role: "group", "aria-label": "Tasks" });
    this.panel = h("div", { class: "panel", "data-testid": "panel" });
    const top = h(
      "section",
      { class: "picker", "aria-label": "Model" },
      labelled("Model", this.picker),
      this.tabs,
      this.state,
    );
    view.replaceChildren(h("h1", { class: "sr" }, "Playground"), top, this.panel);
  }

  // Shows what the URL says, as far as it can.
  async follow() {
    const { model, task, values } = readLink();
    const card = this.cards.find((each) => each.id === model) ?? this.cards[0];
    const tasks = tasksOf(card);
    await this.show(card, tasks.includes(task) ? task : tasks[0], values);
  }

  // Goes to a model and a task, with content in hand. The URL follows.
  go(model, task = "", hand = null) {
    this.hand = hand;
    this.moves = true;
    const link = new URL(writeLink(model, task, {}));
    if (link.hash === location.hash) this.follow();
    else location.hash = link.hash;
  }

  async show(card, task, values) {
    this.leave();
    this.leave = () => {};
    this.picker.value = card.id;
    this.tabs.replaceChildren(...tasksOf(card).map((each) => this.tab(card, each, each === task)));
    this.state.replaceChildren(...about(card));
    const { path, load, ofImages } = TASKS[task];
    const turn = (this.turn = Symbol(task));
    const panel = await (ofImages && seesImages(card) ? ofImages() : load());
    if (this.turn !== turn) return;
    const fields = fieldsOf(this.openapi, path);
    const hand = this.hand;
    this.hand = null;
    const go = (model, next, given) => this.go(model, next, given);
    const refresh = async () => {
      const fresh = await getJson(`/v1/models/${card.id}`);
      Object.assign(card, fresh);
      this.state.replaceChildren(...about(card));
    };
    this.panel.replaceChildren();
    const context = {
      card,
      task,
      path,
      fields,
      start: start(fields, values),
      cards: this.cards,
      hand,
      go,
      refresh,
      linked: values,
    };
    this.leave = (await panel.mount(this.panel, context)) ?? (() => {});
    if (this.moves && document.activeElement === document.body) this.tabs.querySelector("[aria-current]").focus(); // what was pressed is gone
    this.moves = false;
  }

  tab(card, task, isCurrent) {
    const properties = {
      href: writeLink(card.id, task, {}),
      "data-testid": `task-${task}`,
      "aria-current": isCurrent ? "true" : null,
    };
    return h("a", properties, TASKS[task].title);
  }
}

function groups(cards) {
  const families = new Map();
  for (const card of cards) families.set(card.family, [...(families.get(card.family) ?? []), card]);
  return [...families].map(([family, members]) =>
    h(
      "optgroup",
      { label: family },
      members.map((card) => h("option", { value: card.id }, card.id)),
    ),
  );
}

function about(card) {
  const limits = Object.entries(card.limits).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`);
  return [
    h("span", { class: `state ${card.state}` }, STATES[card.state]),
    ` · ${card.license} · revision ${card.revision}`,
    limits.length ? ` · ${limits.join(", ")}` : "",
    card.targets.length ? ` · leads to ${card.targets.join(", ")}` : "",
    card.base ? ` · an adapter of ${card.base}` : "",
  ];
}

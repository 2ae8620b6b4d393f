// The fleet page: services with their replicas and figures as live charts, models' cards, usage by tenant.

import { getJson } from "/pages/api.js";
import { makeCards } from "/pages/cards.js";
import { makeChart } from "/pages/chart.js";
import { button, h, number, table } from "/pages/dom.js";

const EVERY_MS = 2000;
const ENDED_WELL = new Set(["stop", "length"]);

export async function mount(view, { askKey }) {
  const status = h("p", { class: "muted", role: "status" }, "Asking the fleet …");
  view.replaceChildren(h("h1", {}, "Fleet"), status);
  const live = makeLive();
  try {
    const [{ data: models }, usage] = await Promise.all([getJson("/v1/models"), usageTable(), live.start()]);
    const used = h(
      "section",
      { "aria-labelledby": "usage" },
      h("h2", { id: "usage" }, "Usage by tenant, this month"),
      usage,
    );
    view.replaceChildren(h("h1", {}, "Fleet"), live.element, used, makeCards(models));
  } catch (error) {
    status.textContent = error.status === 401 ? "This gateway asks for an API key: enter yours above." : error.message;
    status.className = "notice";
    if (error.status === 401) askKey();
  }
  return live.stop;
}

// Services and their charts, asked for again every two seconds unless the page is hidden or paused.
function makeLive() {
  const status = h("p", { class: "muted", role: "status" });
  const charts = {
    running: makeChart("Rows running", ""),
    finished: makeChart("Rows finished a second", ""),
    failed: makeChart("Rows failed a second", ""),
  };
  const list = h("div", { class: "services", "data-testid": "services" });
  const services = new Map();
  let timer = 0;
  let isOver = false;
  let before = null;
  const pause = button("Pause", () => (timer ? halt() : resume()), { class: "quiet", "data-testid": "pause" });

  async function look() {
    const fleet = await getJson("/v1/fleet");
    const now = {
      at: performance.now(),
      services: new Map(fleet.services.map((service) => [service.name, figures([service])])),
      all: figures(fleet.services),
    };
    if (isOver) return;
    for (const service of fleet.services) {
      if (!services.has(service.name)) services.set(service.name, makeService(service));
      services.get(service.name).show(service, now, before);
    }
    list.replaceChildren(...fleet.services.map((service) => services.get(service.name).element));
    charts.running.add(now.all.running);
    charts.finished.add(rate(now.all, before?.all, "finished", now, before));
    charts.failed.add(rate(now.all, before?.all, "failed", now, before));
    before = now;
  }

  async function resume() {
    pause.textContent = "Pause";
    try {
      if (!document.hidden) await look();
      status.textContent = "";
    } catch (error) {
      status.textContent = error.status === 403 ? "Figures of the fleet are for an operator’s key." : error.message;
      if (error.status === 401 || error.status === 403) return;
    }
    if (!isOver) timer = setTimeout(resume, EVERY_MS);
  }

  function halt() {
    clearTimeout(timer);
    timer = 0;
    pause.textContent = "Go on";
  }

  const heading = h("div", { class: "heading" }, h("h2", { id: "services" }, "Services"), pause);
  const summary = h(
    "div",
    { class: "summary", "data-testid": "summary" },
    Object.values(charts).map((chart) => chart.element),
  );
  return {
    element: h("section", { "aria-labelledby": "services" }, heading, status, summary, list),
    start: resume,
    stop: () => {
      isOver = true;
      halt();
    },
  };
}

function makeService({ name, family, models }) {
  const charts = {
    replicas: makeChart("Replicas", "", { isStepped: true }),
    queue: makeChart("Rows in the queue", "", { isStepped: true }),
    occupancy: makeChart("Rows a step", ""),
    units: makeChart("Units a second", ""),
    first: makeChart("Time to first chunk", " s"),
  };
  const bounds = h("span", { class: "muted" });
  const replicas = h("ul", { class: "replicas" });
  const element = h(
    "article",
    { class: "service", "aria-label": name, "data-testid": `service-${name}` },
    h("div", { class: "heading" }, h("h3", {}, name), h("span", { class: "muted" }, family), bounds),
    h(
      "div",
      { class: "charts" },
      Object.values(charts).map((chart) => chart.element),
    ),
    replicas,
  );

  function show(service, now, before) {
    const [fresh, old] = [now.services.get(name), before?.services.get(name)];
    bounds.textContent =
      service.max_replicas === null
        ? "on another server"
        : `${service.min_replicas} to ${service.max_replicas} replicas`;
    charts.replicas.add(service.replicas.length);
    charts.queue.add(fresh.waiting);
    charts.occupancy.add(ratio(fresh, old, "rowSteps", "steps") ?? fresh.running);
    charts.units.add(rate(fresh, old, "units", now, before));
    charts.first.add(ratio(fresh, old, "firstSeconds", "firsts"));
    const rows = service.replicas.map((replica) =>
      h(
        "li",
        {},
        h("code", {}, replica.replica),
        replica.models.map((each) => h("span", { class: `state ${each.state}` }, `${each.model} ${each.state}`)),
      ),
    );
    replicas.replaceChildren(
      ...(rows.length ? rows : [h("li", { class: "muted" }, `No replica; hosts ${models.join(", ")}`)]),
    );
  }

  return { element, show };
}

// The figures of all models on all replicas of these services, added up.
function figures(services) {
  const entries = services.flatMap((service) => service.replicas.flatMap((replica) => replica.models));
  const sum = (read) => entries.reduce((total, entry) => total + read(entry), 0);
  const ended = (entry, isGood) =>
    Object.entries(entry.finished_rows).reduce(
      (total, [reason, rows]) => total + (ENDED_WELL.has(reason) === isGood ? rows : 0),
      0,
    );
  return {
    waiting: sum((entry) => entry.waiting_rows),
    running: sum((entry) => entry.running_rows),
    steps: sum((entry) => entry.steps),
    rowSteps: sum((entry) => entry.row_steps),
    units: sum((entry) => entry.units),
    finished: sum((entry) => ended(entry, true)),
    failed: sum((entry) => ended(entry, false)),
    firsts: sum((entry) => entry.first_chunks),
    firstSeconds: sum((entry) => entry.first_chunk_seconds),
  };
}

// How fast a count grew since the last look; one that fell lost a replica.
function rate(fresh, old, name, now, before) {
  return old ? Math.max(0, fresh[name] - old[name]) / ((now.at - before.at) / 1000) : null;
}

function ratio(fresh, old, above, below) {
  const grown = old ? fresh[below] - old[below] : 0;
  return grown > 0 ? (fresh[above] - old[above]) / grown : null;
}

async function usageTable() {
  try {
    const { data } = await getJson("/v1/usage/tenants");
    if (!data.length) return h("p", { class: "muted" }, "Nothing was used yet.");
    const head = ["Tenant", "Requests", "Prompt tokens", "Completion tokens", "Images", "Units"];
    const rows = data.map((each) => [
      each.tenant,
      each.requests,
      each.prompt_tokens,
      each.completion_tokens,
      each.images,
      number(each.units),
    ]);
    return table("Since the first of the month, in UTC", head, rows);
  } catch (error) {
    return h(
      "p",
      { class: "muted" },
      error.status === 403 ? "The usage of tenants is for an operator’s key." : error.message,
    );
  }
}

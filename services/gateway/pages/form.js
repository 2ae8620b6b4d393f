// Makes a form from fields of a schema. An empty control leaves its field out: the model's own value holds.

import { h, labelled } from "/pages/dom.js";

const WIDEST_SLIDER = 1000;
const MAKERS = {
  integer: numeric,
  number: numeric,
  boolean: tick,
  choice,
  choices: ticks,
  numbers: list,
  texts: list,
  text: line,
};

// `shown` are the names of fields that stand in sight, in order; the others fold away. `start` are values by name.
export function makeForm(fields, { shown, hidden, start }) {
  const controls = new Map();
  for (const field of fields) {
    const make = MAKERS[field.kind];
    if (make && !hidden.includes(field.name)) controls.set(field.name, make(field, start[field.name]));
  }
  const inSight = shown.filter((name) => controls.has(name)).map((name) => controls.get(name).element);
  const folded = [...controls].filter(([name]) => !shown.includes(name)).map(([, control]) => control.element);
  const more = folded.length
    ? h(
        "details",
        { class: "more", "data-testid": "more-options" },
        h("summary", {}, "More options"),
        h("div", { class: "fields" }, folded),
      )
    : null;
  return {
    element: h("div", { class: "fields" }, inSight, more),
    values: () => read(controls),
    set: (name, value) => controls.get(name)?.set(value),
    has: (name) => controls.has(name),
    renewSeed: () => controls.get("seed")?.renew?.(),
    blame: (param) => blame(controls, more, param),
  };
}

function read(controls) {
  const values = {};
  for (const [name, control] of controls) {
    const value = control.get();
    if (value !== undefined) values[name] = value;
  }
  return values;
}

// Marks the control that the server did not like. Says whether there is one.
function blame(controls, more, param) {
  const stem = (param ?? "").split(/[.[]/)[0];
  for (const [name, control] of controls) {
    const target = control.element.querySelector("input, select, textarea");
    if (name === stem) target.setAttribute("aria-invalid", "true");
    else target.removeAttribute("aria-invalid");
  }
  const control = controls.get(stem);
  if (control && more?.contains(control.element)) more.open = true;
  return Boolean(control);
}

function named(field, properties = {}) {
  return { name: field.name, "data-testid": `field-${field.name}`, autocomplete: "off", ...properties };
}

function numeric(field, start) {
  if (field.name === "seed") return seed(field, start);
  const step = field.kind === "integer" ? 1 : "any";
  const input = h(
    "input",
    named(field, { type: "number", step, min: field.min, max: field.max, placeholder: field.default ?? "default" }),
  );
  const slider = hasSlider(field) ? sliderFor(field) : null;
  const set = (value) => {
    input.value = value ?? "";
    follow();
  };
  const follow = () => {
    if (!slider) return;
    slider.value = input.value === "" ? (field.default ?? field.min) : input.value;
    slider.classList.toggle("unset", input.value === "");
  };
  set(start ?? field.default);
  const element = labelled(field.title, input, field.hint);
  if (slider) {
    element.insertBefore(h("div", { class: "slide" }, slider, input), element.querySelector("small"));
    input.addEventListener("input", follow);
    slider.addEventListener("input", () => set(slider.value));
  }
  return { element, set, get: () => (input.value === "" ? undefined : Number(input.value)) };
}

function hasSlider(field) {
  return field.min !== null && field.max !== null && field.max - field.min <= WIDEST_SLIDER;
}

function sliderFor(field) {
  const step = field.kind === "integer" ? 1 : 0.05;
  const min = field.isOpenBelow ? field.min + step : field.min;
  return h("input", { type: "range", min, max: field.max, step, "aria-label": `${field.title}, slider` });
}

// A seed is as long as 64 bits: a text. Unless it is locked, each run draws another.
function seed(field, start) {
  const input = h(
    "input",
    named(field, { type: "text", inputmode: "numeric", pattern: "-?[0-9]+", placeholder: "random" }),
  );
  const lock = h("input", { type: "checkbox", "data-testid": "seed-lock" });
  if (start !== undefined && start !== null) {
    input.value = start;
    lock.checked = true;
  }
  const element = labelled(field.title, input, field.hint);
  element.insertBefore(
    h("div", { class: "slide" }, input, h("label", { class: "tick" }, lock, "Lock")),
    element.querySelector("small"),
  );
  const set = (value) => {
    input.value = value ?? "";
    lock.checked = value !== null && value !== undefined;
  };
  const renew = () => {
    if (!lock.checked || !input.value) input.value = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  };
  return {
    element,
    set,
    renew,
    get: () => (/^-?\d+$/.test(input.value.trim()) ? exact(input.value.trim()) : undefined),
  };
}

function exact(text) {
  return Number.isSafeInteger(Number(text)) ? Number(text) : text;
}

function tick(field, start) {
  const input = h("input", named(field, { type: "checkbox", checked: start ?? field.default ?? false }));
  const element = h(
    "div",
    { class: "field" },
    h("label", { class: "tick" }, input, field.title),
    field.hint ? h("small", { class: "hint" }, field.hint) : null,
  );
  return {
    element,
    set: (value) => (input.checked = Boolean(value)),
    get: () => (input.checked === Boolean(field.default) ? undefined : input.checked),
  };
}

function choice(field, start) {
  const options = field.options.map((option) => h("option", { value: option }, String(option)));
  if (field.default === null && !field.required) options.unshift(h("option", { value: "" }, "default"));
  const input = h("select", named(field), options);
  const set = (value) => (input.value = value ?? "");
  set(start ?? field.default ?? (field.required ? field.options[0] : ""));
  return {
    element: labelled(field.title, input, field.hint),
    set,
    get: () => (input.value === "" || input.value === field.default ? undefined : input.value),
  };
}

function ticks(field, start) {
  const boxes = field.options.map((option) =>
    h("input", { type: "checkbox", value: option, name: field.name, "data-testid": `field-${field.name}-${option}` }),
  );
  const set = (value) => boxes.forEach((box) => (box.checked = (value ?? []).includes(box.value)));
  set(start ?? field.default);
  const element = h(
    "fieldset",
    { class: "field" },
    h("legend", {}, field.title),
    boxes.map((box) => h("label", { class: "tick" }, box, box.value)),
  );
  return { element, set, get: () => boxes.filter((box) => box.checked).map((box) => box.value) };
}

// Several values, with commas between them.
function list(field, start) {
  const input = h("input", named(field, { type: "text" }));
  const set = (value) => (input.value = (value ?? []).join(", "));
  set(Array.isArray(start) ? start : field.default);
  const get = () => {
    const parts = input.value
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean);
    return parts.length ? (field.kind === "numbers" ? parts.map(Number) : parts) : undefined;
  };
  return {
    element: labelled(field.title, input, [field.hint, "Commas between values."].filter(Boolean).join(" ")),
    set,
    get,
  };
}

function line(field, start) {
  const input = h(
    "input",
    named(field, {
      type: "text",
      maxlength: field.maxLength,
      placeholder: field.default ?? (field.required ? "" : "default"),
    }),
  );
  const set = (value) => (input.value = value ?? "");
  set(start ?? (field.default || ""));
  return {
    element: labelled(field.title, input, field.hint),
    set,
    get: () => (input.value === "" || input.value === field.default ? undefined : input.value),
  };
}

export function textArea(name, text, properties = {}) {
  const area = h("textarea", { name, rows: 3, "data-testid": name, ...properties });
  return { area, element: labelled(text, area) };
}

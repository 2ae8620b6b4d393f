// Reads and writes what a URL shares after its `#`: the model, the task, the parameters and the seed. Never content.

const CONTENT = new Set([
  "messages",
  "prompt",
  "negative_prompt",
  "input",
  "instructions",
  "image",
  "mask",
  "scaffold",
  "start",
  "end",
  "times",
  "tokens",
  "stop",
  "prediction",
  "logit_bias",
  "user",
  "prompt_cache_key",
]);

export function isContent(name) {
  return CONTENT.has(name);
}

export function writeLink(model, task, values) {
  const query = new URLSearchParams({ model, task });
  for (const [name, value] of Object.entries(values)) {
    if (!isContent(name) && name !== "model" && name !== "task")
      query.set(name, Array.isArray(value) ? value.join(",") : String(value));
  }
  return `${location.origin}/#${query}`;
}

// {model, task, values}: values are texts still; `start` makes them what a field takes.
export function readLink() {
  const { model, task, ...values } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  return { model, task, values };
}

export function start(fields, values) {
  const given = {};
  for (const field of fields) {
    const text = values[field.name];
    if (text === undefined || isContent(field.name)) continue;
    if (field.name === "seed") given.seed = /^-?\d+$/.test(text) ? text : undefined;
    else if (field.kind === "integer" || field.kind === "number")
      given[field.name] = Number.isFinite(Number(text)) ? Number(text) : undefined;
    else if (field.kind === "boolean") given[field.name] = text === "true";
    else if (field.kind === "choices" || field.kind === "numbers") given[field.name] = text.split(",");
    else if (field.kind !== "choice" || field.options.includes(text)) given[field.name] = text;
  }
  return given;
}

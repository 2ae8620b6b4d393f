// Asks the public API of this host: JSON, server-sent events, lines of JSON. The key is kept here alone, in memory.

import { parse, write } from "/pages/exact_json.js";

let key = "";

export function useKey(text) {
  key = text.trim();
}

export class ApiError extends Error {
  constructor(status, { message, param = null, code = null }) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
  }
}

function headers(more = {}) {
  return key ? { authorization: `Bearer ${key}`, ...more } : more;
}

async function checked(response) {
  if (response.ok) return response;
  const text = await response.text();
  let error = { message: `The server answered ${response.status}.` };
  try {
    error = parse(text).error;
  } catch {
    // not the gateway's own answer: a proxy's, say
  }
  throw new ApiError(response.status, error);
}

export async function getText(path, signal) {
  const response = await checked(await fetch(path, { headers: headers(), signal }));
  return response.text();
}

export async function getJson(path, signal) {
  return parse(await getText(path, signal));
}

export async function post(path, body, signal) {
  const sent = { method: "POST", body: write(body), headers: headers({ "content-type": "application/json" }), signal };
  return checked(await fetch(path, sent));
}

export async function postJson(path, body, signal) {
  return parse(await (await post(path, body, signal)).text());
}

// The data of each event. A stream that ends without its last word was cut, and is an error.
export async function* events(response) {
  for await (const block of pieces(response, "\n\n")) {
    if (!block.startsWith("data: ")) continue;
    if (block === "data: [DONE]") return;
    yield taken(block.slice(6));
  }
  throw new ApiError(0, { message: "The stream was cut before its end." });
}

// Each item of a list as it comes, and the line that ends it last.
export async function* lines(response) {
  for await (const line of pieces(response, "\n")) {
    if (!line) continue;
    const item = taken(line);
    yield item;
    if (item.object === "list.end") return;
  }
  throw new ApiError(0, { message: "The list was cut before its end." });
}

function taken(text) {
  const data = parse(text);
  if (data.error) throw new ApiError(0, data.error);
  return data;
}

async function* pieces(response, end) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split(end);
    rest = parts.pop();
    yield* parts;
  }
  if (rest.trim()) yield rest;
}

// The panel of conversations: streaming, stop, edit and retry, a system prompt, probabilities of tokens.

import { events, post } from "/pages/api.js";
import { button, h } from "/pages/dom.js";
import { textArea } from "/pages/form.js";
import { jsonFile } from "/pages/toolbar.js";
import { makeTokens } from "/pages/tokens.js";
import { makeWorkbench } from "/pages/workbench.js";

const SHOWN = ["seed", "temperature", "top_p", "max_tokens", "logprobs", "top_logprobs"];
const HIDDEN = [
  "messages",
  "n",
  "stream_options",
  "logit_bias",
  "max_completion_tokens",
  "ignore_eos",
  "min_tokens",
  "prompt_cache_key",
  "prediction",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
];

// Pieces of calls of tools as words: a line for each call, with its name, and its arguments as they come.
function called(pieces) {
  return pieces
    .map(({ index, function: { name, arguments: text } }) => (name ? `${index ? "\n" : ""}${name} ` : "") + (text ?? ""))
    .join("");
}

export function mount(place, context) {
  const system = textArea("system", "System prompt", { rows: 2 });
  const said = textArea("message", "Your message", { rows: 3 });
  const turns = []; // {role, content, element}
  const bench = makeWorkbench(context, {
    label: "Send",
    content: [system.element, said.element],
    shown: SHOWN,
    hidden: HIDDEN,
    usual: { logprobs: true, top_logprobs: 5 },
    body: () => ({}),
  });
  const log = h("ol", { class: "chat", "aria-label": "Conversation", "data-testid": "conversation" });
  bench.output.append(log);
  bench.run = send;
  said.area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  place.replaceChildren(bench.element);

  function send() {
    const text = said.area.value.trim();
    if (!text) return bench.fail(new Error("Write a message first."));
    said.area.value = "";
    push("user", text);
    return answer();
  }

  function push(role, content) {
    const turn = { role, content, body: h("div", { class: "words" }), tools: h("div", { class: "tools" }) };
    turn.element = h(
      "li",
      { class: role, "data-testid": `turn-${role}` },
      h("span", { class: "who" }, role === "user" ? "You" : context.card.id),
      turn.body,
      turn.tools,
    );
    turn.body.textContent = content;
    turns.push(turn);
    log.append(turn.element);
    if (role === "user") turn.tools.append(button("Edit", () => edit(turn), { class: "quiet", "data-testid": "edit" }));
    else turn.tools.append(button("Retry", () => retry(turn), { class: "quiet", "data-testid": "retry" }));
    return turn;
  }

  // Takes back a turn and all after it.
  function cut(turn) {
    bench.stop();
    for (const gone of turns.splice(turns.indexOf(turn))) gone.element.remove();
  }

  function edit(turn) {
    cut(turn);
    said.area.value = turn.content;
    said.area.focus();
  }

  function retry(turn) {
    cut(turn);
    return answer();
  }

  async function answer() {
    bench.stop();
    bench.error.textContent = "";
    bench.form.renewSeed();
    const body = request();
    const turn = push("assistant", "");
    bench.note(context.path, body);
    await bench.attend((signal) => stream(turn, body, signal));
    const transcript = { model: context.card.id, messages: request().messages };
    bench.toolbar.offers([jsonFile("conversation.json", transcript)]);
  }

  function request() {
    const first = system.area.value.trim() ? [{ role: "system", content: system.area.value.trim() }] : [];
    const values = bench.values();
    if (!values.logprobs) delete values.top_logprobs;
    const messages = [
      ...first,
      ...turns.filter((turn) => turn.content).map(({ role, content }) => ({ role, content })),
    ];
    return { model: context.card.id, messages, ...values, stream: true };
  }

  async function stream(turn, body, signal) {
    const tokens = body.logprobs ? makeTokens("Answer") : null;
    if (tokens) turn.body.replaceChildren(tokens.element);
    const response = await post(context.path, body, signal);
    for await (const chunk of events(response)) {
      const choice = chunk.choices[0];
      if (!choice) continue;
      const piece = (choice.delta.content ?? "") + called(choice.delta.tool_calls ?? []);
      turn.content += piece;
      if (tokens) {
        const known = choice.logprobs?.content ?? [];
        for (const each of known) tokens.add(each.token, each.logprob, each.top_logprobs);
        if (!known.length && piece) tokens.add(piece, null);
      } else {
        turn.body.append(piece);
      }
      turn.element.scrollIntoView({ block: "nearest" });
    }
  }

  return () => bench.stop();
}

// The panel of texts that a model goes on with: streamed, with probabilities of tokens.

import { events } from "/pages/api.js";
import { h } from "/pages/dom.js";
import { textArea } from "/pages/form.js";
import { makeTokens } from "/pages/tokens.js";
import { makeWorkbench } from "/pages/workbench.js";

export function mount(place, context) {
  const prompt = textArea("prompt", "Prompt", { rows: 5 });
  const bench = makeWorkbench(context, {
    label: "Go on",
    content: [prompt.element],
    shown: ["seed", "temperature", "top_p", "max_tokens", "logprobs"],
    hidden: ["prompt", "n", "stream_options", "logit_bias", "echo", "ignore_eos", "min_tokens", "prompt_cache_key"],
    usual: { max_tokens: 128, logprobs: 5 },
    body: () => ({ prompt: prompt.area.value, stream: true }),
    show,
  });
  place.replaceChildren(bench.element);

  async function show(response, body, { output, toolbar }) {
    const given = h("span", { class: "given" }, body.prompt);
    const tokens = makeTokens("Completion");
    output.replaceChildren(h("div", { class: "words" }, given, tokens.element));
    let text = body.prompt;
    for await (const chunk of events(response)) {
      const choice = chunk.choices[0];
      if (!choice) continue;
      text += choice.text;
      const known = choice.logprobs;
      if (known)
        known.tokens.forEach((token, at) =>
          tokens.add(token, known.token_logprobs[at], likeliest(known.top_logprobs[at])),
        );
      else if (choice.text) tokens.add(choice.text, null);
    }
    toolbar.offers([{ name: "completion.txt", blob: new Blob([text], { type: "text/plain" }) }]);
  }

  return () => bench.stop();
}

function likeliest(top) {
  return Object.entries(top ?? {}).map(([token, logprob]) => ({ token, logprob }));
}

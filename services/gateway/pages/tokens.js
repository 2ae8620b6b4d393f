// Shows tokens with the probabilities that the model gave them: on hover, by touch, and by the arrow keys.

import { h, number } from "/pages/dom.js";

// {element, add(token, logprob, alternatives), text()}: alternatives are {token, logprob}.
export function makeTokens(label) {
  const tokens = [];
  const facts = h(
    "p",
    { class: "token-facts", "aria-live": "polite", "data-testid": "token-facts" },
    "Point at a token, or press the arrow keys.",
  );
  let current = -1;
  const text = h("div", {
    class: "tokens",
    tabindex: "0",
    role: "group",
    "aria-label": `${label}: tokens and their probabilities`,
    "data-testid": "tokens",
    onpointerover: (event) => event.target.dataset.at && show(Number(event.target.dataset.at)),
    onpointerdown: (event) => event.target.dataset.at && show(Number(event.target.dataset.at)),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !tokens.length) return;
      event.preventDefault();
      show(Math.min(tokens.length - 1, Math.max(0, current + step)));
    },
  });

  function show(at) {
    text.children[current]?.classList.remove("current");
    current = at;
    text.children[at].classList.add("current");
    const { token, logprob, alternatives } = tokens[at];
    const others = alternatives.map((each) => `${JSON.stringify(each.token)} ${percent(each.logprob)}`).join(", ");
    facts.textContent = `${JSON.stringify(token)} ${percent(logprob)}${others ? `; likeliest: ${others}` : ""}`;
  }

  return {
    element: h("div", { class: "token-view" }, text, facts),
    add(token, logprob, alternatives = []) {
      tokens.push({ token, logprob, alternatives });
      text.append(h("span", { class: `token p${level(logprob)}`, "data-at": tokens.length - 1 }, token));
    },
  };
}

function percent(logprob) {
  return logprob === null ? "given" : `${number(100 * Math.exp(logprob))} %`;
}

// 4 is nearly certain, 0 is a surprise.
function level(logprob) {
  if (logprob === null) return 4;
  return [0.05, 0.25, 0.5, 0.9].filter((bound) => Math.exp(logprob) >= bound).length;
}

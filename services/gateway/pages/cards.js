// The models' cards: what each was trained on and how good it is, with its sheets of samples. Read when it is opened.

import { getJson } from "/pages/api.js";
import { h } from "/pages/dom.js";
import { render } from "/pages/markdown.js";

export function makeCards(models) {
  return h("section", { "aria-labelledby": "cards" }, h("h2", { id: "cards" }, "Models"), models.map(cardOf));
}

function cardOf(model) {
  const body = h("div", { class: "card-body" }, h("p", { class: "muted" }, "Reading the card …"));
  let isRead = false;
  const ontoggle = async (event) => {
    if (!event.target.open || isRead) return;
    isRead = true;
    body.replaceChildren(...(await documentOf(model)));
  };
  const summary = h(
    "summary",
    {},
    h("strong", {}, model.id),
    h("span", { class: `state ${model.state}` }, model.state),
    h("span", { class: "muted" }, `${model.family} · ${model.tasks.join(", ")} · ${model.license}`),
  );
  return h("details", { class: "card", ontoggle, "data-testid": `card-${model.id}` }, summary, body);
}

async function documentOf(model) {
  try {
    const card = await getJson(`/v1/cards/${model.id}`);
    const pictures = Object.fromEntries(
      card.sheets.map((sheet) => [`sheets/${sheet.name}`, `data:${sheet.media_type};base64,${sheet.b64}`]),
    );
    return render(card.markdown, pictures);
  } catch (error) {
    return [h("p", { class: "muted" }, error.status === 404 ? "Its makers published no card here." : error.message)];
  }
}

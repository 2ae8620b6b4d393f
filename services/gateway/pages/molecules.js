// The panel of molecules: a drawing of each with its properties. A drawing is shown as an image, never as markup.

import { lines } from "/pages/api.js";
import { facts, h, labelled, number } from "/pages/dom.js";
import { jsonFile } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

export function mount(place, context) {
  const scaffold = h("input", {
    type: "text",
    name: "scaffold",
    "data-testid": "scaffold",
    maxlength: 256,
    placeholder: "c1ccc2c(",
  });
  const bench = makeWorkbench(context, {
    label: "Draw",
    content: [labelled("Scaffold", scaffold, "What the SMILES begins with; may be left out.")],
    shown: ["n", "seed", "temperature", "valid_only"],
    hidden: ["scaffold", "format"],
    usual: { n: 12, drawings: true, valid_only: true },
    body: () => ({ ...(scaffold.value ? { scaffold: scaffold.value } : {}), stream: true }),
    show,
  });
  place.replaceChildren(bench.element);

  async function show(response, _, { output, toolbar }) {
    const molecules = [];
    const cells = h("div", { class: "grid", "data-testid": "molecules" });
    const told = h("p", { class: "muted" });
    output.replaceChildren(told, cells);
    for await (const molecule of lines(response)) {
      if (molecule.object === "list.end") break;
      molecules.push(molecule);
      cells.append(cell(molecule));
      const valid = molecules.filter((each) => each.valid);
      told.textContent = `${molecules.length} molecules, ${valid.length} valid, ${new Set(valid.map((each) => each.canonical)).size} different`;
    }
    toolbar.offers([jsonFile("molecules.json", molecules)]);
  }

  return () => bench.stop();
}

function cell(molecule) {
  const image = molecule.svg
    ? h("img", {
        class: "drawing",
        alt: `Structure of ${molecule.smiles}`,
        src: `data:image/svg+xml,${encodeURIComponent(molecule.svg)}`,
        width: 200,
        height: 160,
      })
    : h("p", { class: "drawing muted" }, molecule.valid ? "No drawing asked for" : "Not a molecule");
  const told = facts([
    ["Formula", molecule.formula],
    ["QED", known(molecule.qed)],
    ["logP", known(molecule.logp)],
    ["g/mol", known(molecule.weight, 4)],
    ["Seed", molecule.seed],
  ]);
  return h("figure", { class: "cell" }, image, h("figcaption", { class: "code" }, molecule.smiles), told);
}

function known(value, digits = 3) {
  return value === null || value === undefined ? null : number(value, digits);
}

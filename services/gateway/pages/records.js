// The panel of records: a table of drawn rows, and each column's histogram against the real data.

import { getJson } from "/pages/api.js";
import { writeCsv, readCsv } from "/pages/csv.js";
import { h, table } from "/pages/dom.js";
import { parse } from "/pages/exact_json.js";
import { makeHistogram } from "/pages/histogram.js";
import { bytesOf, jsonFile } from "/pages/toolbar.js";
import { makeWorkbench } from "/pages/workbench.js";

const SHOWN_ROWS = 100;

export function mount(place, context) {
  let real = null;
  const bench = makeWorkbench(context, {
    label: "Draw",
    shown: ["n", "seed", "temperature"],
    hidden: ["format"],
    usual: { n: 500 },
    body: () => ({}),
    show,
  });
  place.replaceChildren(bench.element);

  async function show(response, _, { output, toolbar }) {
    const answer = parse(await response.text());
    real ??= await realRecords(context.card.id);
    const records = answer.data.map((item) => item.record);
    const names = answer.columns.map((column) => column.name);
    const legend = h(
      "p",
      { class: "legend" },
      h("span", { class: "key drawn" }, `${records.length} drawn`),
      real.length
        ? h("span", { class: "key real" }, `${real.length} real, held out`)
        : " No real data of this model is published.",
    );
    const pictures = answer.columns.map((column) =>
      makeHistogram(column, valuesOf(records, column.name), valuesOf(real, column.name)),
    );
    const shown = records.slice(0, SHOWN_ROWS);
    output.replaceChildren(
      legend,
      h("div", { class: "grid", "data-testid": "histograms" }, pictures),
      table(
        `The first ${shown.length} of ${records.length} records`,
        names,
        shown.map((record) => names.map((name) => record[name])),
      ),
    );
    toolbar.offers([
      { name: "records.csv", blob: new Blob([writeCsv(names, records)], { type: "text/csv" }) },
      jsonFile("records.json", records),
    ]);
  }

  return () => bench.stop();
}

// The model's committed sample of data that it was not trained on; none where it has no card, or no table.
async function realRecords(model) {
  try {
    const { held_out: file } = await getJson(`/v1/cards/${model}`);
    return file?.media_type === "text/csv" ? readCsv(new TextDecoder().decode(bytesOf(file.b64))) : [];
  } catch (error) {
    if (error.status === 404) return [];
    throw error;
  }
}

function valuesOf(records, name) {
  return records.map((record) => record[name]).filter((value) => value !== null && value !== undefined && value !== "");
}

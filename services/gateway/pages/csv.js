// Reads and writes CSV (RFC 4180) with a header line: records as objects of texts.

export function readCsv(text) {
  const [head, ...rows] = cells(text);
  return rows.map((row) => Object.fromEntries(head.map((name, at) => [name, row[at] ?? ""])));
}

function cells(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.trimEnd().matchAll(/(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "") break;
    if (end !== ",") rows.push([]);
  }
  return rows;
}

export function writeCsv(names, records) {
  const quoted = (value) =>
    /[",\r\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? "");
  return (
    [names, ...records.map((record) => names.map((name) => record[name]))]
      .map((row) => row.map(quoted).join(","))
      .join("\r\n") + "\r\n"
  );
}

// Writes a request as a command of curl and as a program in Python. Neither holds a key.

import { write } from "/pages/exact_json.js";

export function asCurl(path, body) {
  const quoted = write(body).replaceAll("'", "'\\''");
  const file = fileOf(body);
  return [
    `curl ${file ? `-o ${file} ` : ""}${body.stream ? "-N " : ""}${location.origin}${path} \\`,
    `  -H "authorization: Bearer $CASTALIA_API_KEY" \\`,
    `  -H 'content-type: application/json' \\`,
    `  -d '${quoted}'`,
  ].join("\n");
}

export function asPython(path, body) {
  const call = `"${location.origin}${path}", json=body, headers=headers, timeout=600`;
  const file = fileOf(body);
  const rest = file
    ? [
        `answer = httpx.post(${call})`,
        "answer.raise_for_status()",
        `with open("${file}", "wb") as file:`,
        "    file.write(answer.content)",
      ]
    : body.stream
      ? [`with httpx.stream("POST", ${call}) as answer:`, "    for line in answer.iter_lines():", "        print(line)"]
      : [`answer = httpx.post(${call})`, "answer.raise_for_status()", "print(answer.text)"];
  return [
    "import os",
    "",
    "import httpx",
    "",
    `headers = {"authorization": f"Bearer {os.environ.get('CASTALIA_API_KEY', 'none')}"}`,
    `body = ${literal(body, "")}`,
    ...rest,
    "",
  ].join("\n");
}

// The file that answers, where the answer is one.
function fileOf(body) {
  return body.voice ? `speech.${body.response_format ?? "mp3"}` : "";
}

function literal(value, indent, name = "") {
  const inner = `${indent}    `;
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (name === "seed" && typeof value === "string") return value;
  if (typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) {
    if (value.every((each) => typeof each !== "object"))
      return `[${value.map((each) => literal(each, inner)).join(", ")}]`;
    return `[\n${value.map((each) => `${inner}${literal(each, inner)},\n`).join("")}${indent}]`;
  }
  const lines = Object.entries(value).filter(([, each]) => each !== undefined);
  return `{\n${lines.map(([key, each]) => `${inner}${JSON.stringify(key)}: ${literal(each, inner, key)},\n`).join("")}${indent}}`;
}

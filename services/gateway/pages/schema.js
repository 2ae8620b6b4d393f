// Reads what an operation takes from /openapi.json: each field of its body with its kind, bounds and default.

// The fields of a POST operation's JSON body, in the schema's order.
export function fieldsOf(document, path) {
  const content = document.paths[path]?.post?.requestBody?.content;
  const schema = content && resolved(document, content["application/json"].schema);
  if (!schema) return [];
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties).map(([name, given]) => field(document, name, given, required.has(name)));
}

function resolved(document, schema) {
  return schema.$ref ? document.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function field(document, name, given, required) {
  const kinds = (given.anyOf ?? [given]).map((each) => resolved(document, each)).filter((each) => each.type !== "null");
  const schema = { ...kinds[0], description: given.description ?? kinds[0].description ?? "" };
  return {
    name,
    required,
    title: titleOf(name),
    hint: schema.description,
    default: given.default ?? null,
    kind: kindOf(document, schema),
    options: schema.enum ?? resolved(document, schema.items ?? {}).enum ?? [],
    min: schema.minimum ?? schema.exclusiveMinimum ?? null,
    max: schema.maximum ?? schema.exclusiveMaximum ?? null,
    isOpenBelow: schema.exclusiveMinimum !== undefined,
    pattern: schema.pattern ?? null,
    maxLength: schema.maxLength ?? null,
  };
}

function titleOf(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

function kindOf(document, schema) {
  if (schema.const !== undefined) return "fixed";
  if (schema.enum) return "choice";
  if (schema.type === "array") {
    const items = resolved(document, schema.items ?? {});
    if (items.enum) return "choices";
    return items.type === "number" ? "numbers" : items.type === "string" ? "texts" : "other";
  }
  if (schema.type === "string") return "text";
  return ["integer", "number", "boolean"].includes(schema.type) ? schema.type : "other";
}

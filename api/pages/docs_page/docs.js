// Draws /openapi.json: operations by tag, their parameters, bodies and answers, and a form to call each.
const el = (name, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

let description;

const resolve = (schema) => {
  if (!schema || !schema.$ref) return schema ?? {};
  return description.components.schemas[schema.$ref.split("/").pop()] ?? {};
};

// A sample value of a schema, for the form and for readers.
const sample = (given, depth = 0) => {
  const schema = resolve(given);
  if (depth > 5) return null;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum.includes("EUR") ? "EUR" : schema.enum[0];
  const choice = (schema.anyOf ?? schema.oneOf)?.find((one) => one.type !== "null");
  if (choice) return sample(choice, depth + 1);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === "object") {
    if (schema.properties) {
      return Object.fromEntries(Object.entries(schema.properties).map(([key, one]) => [key, sample(one, depth + 1)]));
    }
    return schema.additionalProperties ? { name: sample(schema.additionalProperties, depth + 1) } : {};
  }
  if (type === "array") return schema.items ? [sample(schema.items, depth + 1)] : [];
  if (type === "integer" || type === "number") return schema.minimum ?? 1;
  if (type === "boolean") return true;
  if (type === "null") return null;
  return { uuid: "00000000-0000-4000-8000-000000000000", "date-time": "2026-01-31T12:00:00Z", email: "ada@example.com" }[schema.format] ?? "text";
};

const pretty = (value) => JSON.stringify(value, null, 2);

const kind = (given) => {
  const schema = resolve(given);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  return [schema.type, schema.format, schema.pattern, schema.enum?.slice(0, 6).join(" | ")].filter(Boolean).join(" ");
};

const drawOperation = (path, method, operation) => {
  const verb = method.toUpperCase();
  const inputs = new Map();
  const box = el("div");
  box.append(el("p", { textContent: operation.description }));
  if (operation["x-roles"]) box.append(el("p", { className: "muted", textContent: `Roles: ${operation["x-roles"].join(", ")}` }));
  else box.append(el("p", { className: "muted", textContent: "No token needed" }));

  if (operation.parameters?.length) {
    const table = el("table", {}, el("tr", {}, ...["Parameter", "In", "Form", "Value"].map((text) => el("th", { textContent: text }))));
    for (const parameter of operation.parameters) {
      const input = el("input", { ariaLabel: parameter.name });
      inputs.set(parameter, input);
      table.append(el("tr", {},
        el("td", {}, el("code", { textContent: parameter.name + (parameter.required ? " *" : "") })),
        el("td", { textContent: parameter.in }),
        el("td", { className: "muted", textContent: `${kind(parameter.schema)} ${parameter.description ?? ""}` }),
        el("td", {}, input)));
    }
    box.append(table);
  }

  let body = null;
  const media = operation.requestBody && Object.entries(operation.requestBody.content)[0];
  if (media) {
    box.append(el("h4", { textContent: `Body (${Object.keys(operation.requestBody.content).join(", ")})` }));
    body = el("textarea", { value: pretty(sample(media[1].schema)), ariaLabel: "Body", spellcheck: false });
    box.append(body);
  }

  const result = el("pre", { hidden: true });
  const call = el("button", { textContent: "Call", type: "button" });
  call.addEventListener("click", async () => {
    let url = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const [parameter, input] of inputs) {
      if (input.value === "") continue;
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (parameter.in === "query") query.set(parameter.name, input.value);
      else headers[parameter.name] = input.value;
    }
    const token = document.getElementById("token").value.trim();
    if (token && operation["x-roles"]) headers.Authorization = `Bearer ${token}`;
    if (body) headers["Content-Type"] = media[0] === "*/*" ? "application/json" : media[0];
    const full = query.size ? `${url}?${query}` : url;
    result.hidden = false;
    try {
      const response = await fetch(full, { method: verb, headers, body: body ? body.value : undefined });
      const text = await response.text();
      let shown = text;
      try { shown = pretty(JSON.parse(text)); } catch { /* not JSON: shown as it is */ }
      result.textContent = `${response.status} ${response.statusText}\n${shown}`;
    } catch (error) {
      result.textContent = String(error);
    }
  });
  box.append(call, result);

  const answers = el("table", {}, el("tr", {}, ...["Answer", "", "Body"].map((text) => el("th", { textContent: text }))));
  for (const [status, answer] of Object.entries(operation.responses)) {
    const content = answer.content && Object.values(answer.content)[0];
    const shown = Number(status) < 300 && content ? el("pre", { textContent: pretty(sample(content.schema)) }) : el("code", { textContent: content?.schema?.$ref?.split("/").pop() ?? "" });
    answers.append(el("tr", {}, el("td", { textContent: status }), el("td", { textContent: answer.description }), el("td", {}, shown)));
  }
  box.append(answers);

  return el("details", { className: "op" },
    el("summary", {},
      el("span", { className: `method ${verb}`, textContent: verb }),
      el("span", { className: "path", textContent: path }),
      el("span", { className: "muted", textContent: operation.summary })),
    box);
};

const response = await fetch("/openapi.json");
description = await response.json();
document.getElementById("about").textContent = description.info.description.replaceAll("`", "");
const byTag = new Map(description.tags.map((tag) => [tag.name, []]));
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) byTag.get(operation.tags[0]).push(drawOperation(path, method, operation));
}
for (const [tag, drawn] of byTag) document.getElementById("operations").append(el("h2", { textContent: tag }), ...drawn);

// Forms: one submission at a time, each error beside its field, the focus on the first one.

export function form(element, submit) {
  const notice = element.querySelector("[data-error]");
  const button = element.querySelector('button[type="submit"]');

  const show = (message, fields = {}) => {
    let first = null;
    let rest = [];
    for (const input of element.elements) {
      if (!input.name) continue;
      const text = fields[input.name];
      const place = document.getElementById(`${input.id}-error`);
      place.textContent = text ?? "";
      place.hidden = !text;
      if (text) {
        input.setAttribute("aria-invalid", "true");
        first ??= input;
      } else {
        input.removeAttribute("aria-invalid");
      }
    }
    for (const [name, text] of Object.entries(fields)) if (!element.elements[name]) rest.push(`${name}: ${text}`);
    const said = first ? rest.join("; ") : [message, ...rest].filter(Boolean).join(" ");
    notice.textContent = said;
    notice.hidden = !said;
    first?.focus();
  };

  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    const values = Object.fromEntries([...new FormData(element)].map(([name, value]) => [name, String(value)]));
    const missing = {};
    for (const input of element.elements) if (input.required && !values[input.name].trim()) missing[input.name] = "Please fill this in.";
    if (Object.keys(missing).length) {
      show("", missing);
      return;
    }
    show("");
    button.setAttribute("aria-busy", "true");
    try {
      await submit(values);
    } catch (error) {
      show(error.message, error.fields);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });

  return { clear: () => show("") };
}

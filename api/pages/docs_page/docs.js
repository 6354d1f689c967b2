// The description of the API in the viewer (RapiDoc), which calls it as whoever is signed in, on this page or another.
import { current, fresh, signIn, signOut, watch } from "/shared/session.js";

const viewer = document.getElementById("viewer");
const form = document.getElementById("sign-in");
const leave = document.getElementById("sign-out");
const said = document.getElementById("said");
const dark = matchMedia("(prefers-color-scheme: dark)");
const COLOURS = {
  light: { "bg-color": "#ffffff", "text-color": "#1b1e2b", "primary-color": "#3b4cca", "nav-bg-color": "#f4f5f9", "nav-text-color": "#1b1e2b" },
  dark: { "bg-color": "#12141c", "text-color": "#eceef6", "primary-color": "#9aa8ff", "nav-bg-color": "#1b1e29", "nav-text-color": "#eceef6" },
};
// The viewer's own greys, reds and greens are too pale to be read (WCAG 1.4.3).
const READABLE = {
  light: "--fg2: #333849; --fg3: #4d5366; --light-fg: #4d5366; --placeholder-color: #4d5366; --red: #a3211a; --light-red: #fdecea; --green: #12633a; --light-green: #e6f5ec; --blue: #1f55b0; --light-blue: #e9f1ff; --orange: #85410a; --light-orange: #fff3e6; --yellow: #6b4d00; --light-yellow: #fff8e0; --purple: #5d3aa6; --pink: #96205e; --brown: #6b4423; --primary-color: #3b4cca; --primary-color-invert: #ffffff; --nav-text-color: #1b1e2b; --nav-hover-text-color: #1b1e2b; --nav-accent-color: #3b4cca",
  dark: "--fg2: #d5d9e8; --fg3: #b8bfd4; --light-fg: #b8bfd4; --placeholder-color: #b8bfd4; --red: #ffb4ab; --light-red: #43201d; --green: #6fdca3; --light-green: #16311f; --blue: #9cc3ff; --light-blue: #17253f; --orange: #ffb98a; --light-orange: #3d2614; --yellow: #f2c063; --light-yellow: #392d10; --purple: #cdb5ff; --pink: #ffb0d6; --brown: #dcb896; --primary-color: #9aa8ff; --primary-color-invert: #10132a; --nav-text-color: #eceef6; --nav-hover-text-color: #eceef6; --nav-accent-color: #9aa8ff",
};
const readable = new CSSStyleSheet();

function paint() {
  const theme = dark.matches ? "dark" : "light";
  viewer.setAttribute("theme", theme);
  for (const [name, value] of Object.entries(COLOURS[theme])) viewer.setAttribute(name, value);
  readable.replaceSync(`*, *::before, *::after { ${READABLE[theme]} } .descr, .summary .descr, .table-title { opacity: 1 !important }`);
}

function show(session) {
  form.hidden = session !== null;
  leave.hidden = session === null;
  said.textContent = session ? `Calls are made as ${session.user.email}` : "Sign in to make calls from this page";
  if (session) viewer.setApiKey("bearer", session.token);
  else viewer.removeAllSecurityKeys();
}

async function renew() {
  show(await fresh().catch(() => current()));
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    show(await signIn(form.email.value, form.password.value));
    form.reset();
    leave.focus();
  } catch (error) {
    said.textContent = error.message;
  }
});

leave.addEventListener("click", async () => {
  await signOut();
  show(null);
  form.email.focus();
});

// What a field is for, said to those who don't see it: the viewer's own have no labels, and no event tells when it draws more.
function label(root) {
  for (const field of root.querySelectorAll("input, select, textarea")) {
    if (!field.labels?.length && !field.ariaLabel) field.ariaLabel = field.dataset.pname ?? field.placeholder ?? "";
    if (!field.labels?.length && !field.ariaLabel) field.ariaLabel = field.localName === "select" ? "Schema of the body or answer" : "Value";
  }
  root.querySelectorAll("nav").forEach((nav, number) => (nav.ariaLabel ||= number ? `Operations, ${number + 1}` : "Operations"));
  for (const one of root.querySelectorAll("*")) if (one.shadowRoot) label(one.shadowRoot);
}

await customElements.whenDefined("rapi-doc");
viewer.shadowRoot.adoptedStyleSheets = [...viewer.shadowRoot.adoptedStyleSheets, readable];
dark.addEventListener("change", paint);
paint();
viewer.addEventListener("spec-loaded", renew);
viewer.addEventListener("before-try", () => fresh().catch(() => null)); // an old token is renewed for the next call
watch(show);
viewer.setAttribute("spec-url", "/openapi.json");
setInterval(renew, 60_000);
setInterval(() => label(viewer.shadowRoot), 500);

// Who is signed in: tokens shared by all tabs, renewed before they end, gone at sign-out in every tab.

const KEY = "bitnexus.session";
const PATIENCE = 20000; // ms: a connection may have come to a server that hangs
const EARLY = 60; // seconds before its end that a token is renewed

let renewal = null;

export class ApiError extends Error {
  constructor(status, { code, message, fields }) {
    super(message);
    this.status = status;
    this.code = code;
    this.fields = fields ?? {};
  }
}

export class Unreachable extends Error {}

export function current() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}

function keep(answer) {
  const session = { ...answer, ends: Date.now() / 1000 + answer.expires_in };
  localStorage.setItem(KEY, JSON.stringify(session));
  return session;
}

/** Calls `changed(session or null)` when another tab signs in, out or renews. */
export function watch(changed) {
  addEventListener("storage", (event) => {
    if (event.key === KEY || event.key === null) changed(current());
  });
}

async function send(path, { method = "GET", body, token, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: {
        ...headers,
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body ? { "content-type": "application/json" } : {}),
      },
      body: body ? JSON.stringify(body) : undefined,
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new Unreachable("The server can't be reached. Check the connection and try again.");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw new ApiError(response.status, answer?.error ?? { code: "unknown", message: `The server answered ${response.status}.` });
}

export async function signIn(email, password) {
  return keep(await send("/api/v1/auth/login", { method: "POST", body: { email, password } }));
}

export async function signOut() {
  const session = current();
  localStorage.removeItem(KEY);
  if (session) {
    const body = { refresh_token: session.refresh_token };
    await send("/api/v1/auth/logout", { method: "POST", body, token: session.token }).catch(() => {});
  }
}

// A refresh token works once, so one tab at a time renews; the others take what it got.
async function renewAlone(old) {
  const session = current();
  if (!session || session.token !== old.token) return session;
  try {
    return keep(await send("/api/v1/auth/refresh", { method: "POST", body: { refresh_token: session.refresh_token } }));
  } catch (error) {
    if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
      localStorage.removeItem(KEY);
      return null;
    }
    throw error;
  }
}

/** A session with a token that is good for a while; null when the user has to sign in again. */
export async function fresh(force = false) {
  const session = current();
  if (!session || (!force && session.ends - EARLY > Date.now() / 1000)) return session;
  const locked = () => (navigator.locks ? navigator.locks.request(KEY, () => renewAlone(session)) : renewAlone(session));
  renewal ??= locked().finally(() => (renewal = null));
  return renewal;
}

/** A call of the API as the signed-in user; a token found dead is renewed once. */
export async function call(path, options = {}) {
  let session = await fresh();
  if (!session) throw new ApiError(401, { code: "unauthorized", message: "Sign in again." });
  try {
    return await send(path, { ...options, token: session.token });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    session = await fresh(true);
    if (!session) throw error;
    return send(path, { ...options, token: session.token });
  }
}

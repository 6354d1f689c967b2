// Which node the console is about, and calls of the operators' API about it.

import { call as asked } from "/shared/session.js";

export const chosen = { name: null };

/** As `call` of the session; of an operation about one node, the chosen one. */
export function call(path, options) {
  if (chosen.name === null) return asked(path, options);
  return asked(`${path}${path.includes("?") ? "&" : "?"}node=${encodeURIComponent(chosen.name)}`, options);
}

// Who uses the page. The token is in a cookie that scripts cannot read; the page knows the user and the proof for changes.

import { get, onCsrfRefresh, onSignedOut, post, setCsrfToken } from "./api.js";

/** How often a session in use is renewed. */
const RENEW_EVERY_MS = 300_000;
/** How long after the last key or pointer a page that is looked at counts as in use. */
const IN_USE_MS = 3_600_000;

export const session = {
  /** The name of the user; null when nobody is logged in. */
  user: null,
  /** Whether somebody has logged in; not so on a server without authentication, or with a client certificate. */
  loggedIn: false,
  /** Permissions held on every key. */
  permissions: [],
  /** What the user may do and by which roles: `permission`, `pattern`, `roles`. */
  rights: [],
  /** The node that answers. */
  nodeId: "",
  nodeName: "",
  /** Why the last session is over, for the login page. */
  ended: null,
};

const listeners = new Set();
let lastUse = Date.now();
let timer = 0;

/** Calls `listener` when somebody logs in or out. */
export function onSession(listener) {
  listeners.add(listener);
}

/** Whether the user holds this permission on every key. */
export const may = (permission) =>
  session.permissions.includes("admin") || session.permissions.includes(permission);

function take(answer) {
  session.user = answer.user ?? "";
  session.permissions = answer.permissions ?? [];
  session.rights = answer.rights ?? [];
  session.nodeId = answer.header?.nodeId ?? "";
  session.nodeName = answer.header?.nodeName ?? "";
  session.ended = null;
  session.loggedIn = Boolean(answer.csrfToken);
  setCsrfToken(answer.csrfToken);
}

function changed() {
  for (const listener of listeners) listener();
}

/** Asks the node who this is. Throws a `Refusal` when it cannot be asked. */
export async function load() {
  try {
    take(await get("/v1/session", { quiet: true }));
  } catch (refusal) {
    if (!refusal.signedOut) throw refusal;
    session.user = null;
  }
  clearInterval(timer);
  timer = setInterval(renew, RENEW_EVERY_MS);
  changed();
}

export async function login(user, password) {
  const answer = await post("/v1/login", { user, password, cookie: true }, { quiet: true });
  setCsrfToken(answer.csrfToken);
  await load();
}

export async function logout() {
  try {
    await post("/v1/logout", {}, { quiet: true });
  } finally {
    end(null);
  }
}

/** Nobody is logged in any more; `refusal` says why. */
function end(refusal) {
  if (session.user === null) return;
  session.user = null;
  session.loggedIn = false;
  session.permissions = [];
  session.ended = refusal;
  setCsrfToken("");
  changed();
}

async function renew() {
  if (!session.loggedIn || document.hidden || Date.now() - lastUse > IN_USE_MS) return;
  try {
    await post("/v1/session/renew");
  } catch (_refusal) {
    // Whoever is logged out by it hears of it; a node that is away is the business of the live view.
  }
}

onCsrfRefresh(async () => {
  try {
    take(await get("/v1/session", { quiet: true }));
  } catch (_refusal) {
    // The refusal that led here is the one to tell.
  }
});
onSignedOut(end);
for (const name of ["keydown", "pointerdown"]) {
  addEventListener(name, () => (lastUse = Date.now()), { passive: true, capture: true });
}

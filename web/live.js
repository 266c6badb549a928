// What the node tells about itself each second, over one connection for the whole page. It rests while the page is hidden, and
// comes back by itself when the node was away.

import { get } from "./api.js";
import { load, session } from "./session.js";
import { listen } from "./stream.js";

/** Points that are kept: ten minutes. */
const POINTS_MAX = 600;
const LEADERS_MAX = 100;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 4000;
/** How often a user who may not watch has the page ask whether the node is there. */
const PROBE_EVERY_MS = 5000;
/** A status that is older than this is told to be old. */
export const STALE_MS = 4000;

export const live = {
  /** `connecting`, `open`, `resting`, `away`, or `forbidden` when the user may not watch. */
  state: "connecting",
  /** Since when the node has been away, in milliseconds since 1970. */
  awaySince: 0,
  /** Why it is away, or the user may not watch. */
  refusal: null,
  status: null,
  leaderAdminAddress: "",
  heardAt: 0,
  /** Oldest first. */
  figures: [],
  leaders: [],
  /** How often the node came back; pages that load data once load it again. */
  epoch: 0,
};

const listeners = new Set();
let running = null;

/** Calls `listener` with each change until the result is called. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell() {
  for (const listener of [...listeners]) listener(live);
}

function became(state, refusal = null) {
  const was = live.state;
  live.state = state;
  live.refusal = refusal;
  if (state === "away" && was !== "away") live.awaySince = Date.now();
  if (state !== "away" && was === "away") live.epoch += 1;
  tell();
}

/** Begins to listen, when somebody is logged in and looks. */
export function start() {
  if (running !== null || session.user === null) return;
  if (document.hidden) return became("resting");
  const controller = new AbortController();
  running = controller;
  void follow(controller.signal);
}

/** Stops. */
export function stop() {
  running?.abort();
  running = null;
}

/** Forgets what was told to somebody else. */
export function forget() {
  stop();
  Object.assign(live, { state: "connecting", status: null, figures: [], leaders: [], refusal: null });
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return start();
  if (running === null) return;
  stop();
  became("resting");
});

function event(name, data) {
  if (name === "history") {
    live.leaders = data.leaders ?? [];
    live.figures = data.figures ?? [];
  } else if (name === "status") {
    live.heardAt = Date.now();
    live.status = data.status;
    live.leaderAdminAddress = data.leaderAdminAddress ?? "";
    noteLeader(data.status);
    if (data.figures !== undefined) {
      live.figures.push(data.figures);
      if (live.figures.length > POINTS_MAX) live.figures.splice(0, live.figures.length - POINTS_MAX);
    }
  } else if (name === "end") {
    return;
  }
  tell();
}

/** A change of the office that came after the history was sent. */
function noteLeader(status) {
  const name = status?.leader?.name;
  const last = live.leaders.at(-1);
  if (name === undefined || (last !== undefined && last.leaderName === name && last.term === status.term)) return;
  live.leaders.push({ atMs: String(Date.now()), term: status.term, leaderName: name });
  if (live.leaders.length > LEADERS_MAX) live.leaders.shift();
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

async function follow(signal) {
  let delay = RETRY_MS_MIN;
  const opened = () => {
    delay = RETRY_MS_MIN;
    became("open");
  };
  while (!signal.aborted) {
    try {
      await listen("/v1/events", { opened, event, signal });
    } catch (refusal) {
      if (signal.aborted) return;
      if (refusal.signedOut) {
        stop();
        await get("/v1/session").catch(() => {});
        return;
      }
      if (refusal.forbidden) {
        became("forbidden", refusal);
        await probe(signal);
        continue;
      }
      became("away", refusal);
    }
    await pause(delay, signal);
    delay = Math.min(delay * 2, RETRY_MS_MAX);
    if (!signal.aborted && live.state === "away") await sessionLives(signal);
  }
}

/** The node may have started anew, which ends its sessions: then the page asks to log in. */
async function sessionLives(signal) {
  try {
    await get("/v1/session", { signal });
  } catch (refusal) {
    if (refusal.signedOut) stop();
  }
}

/** For users who may not watch: only whether the node is there, until it was away. */
async function probe(signal) {
  while (!signal.aborted) {
    await pause(PROBE_EVERY_MS, signal);
    try {
      await get("/v1/session", { signal });
      if (live.state === "away") return became("connecting");
    } catch (refusal) {
      if (signal.aborted || refusal.signedOut) return stop();
      if (refusal.unreachable) became("away", refusal);
    }
  }
}

export { load };

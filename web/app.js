// The shell: navigation, what is going on with the node, and the page that the hash names.

import { access } from "./access.js";
import { audit } from "./audit.js";
import { backups } from "./backups.js";
import { cluster } from "./cluster.js";
import { config } from "./config.js";
import { announce, fill, h, setText } from "./dom.js";
import { relative, span, visible } from "./format.js";
import { keys } from "./keys.js";
import * as liveView from "./live.js";
import { live, STALE_MS } from "./live.js";
import { loginPage } from "./login.js";
import { isLeaderless, overview, reasonText } from "./overview.js";
import { button, closeDialogs, consoleAt, problem, toast } from "./parts.js";
import { load, logout, may, onSession, session } from "./session.js";

/** Routes in the order of the navigation: name, title, page, whether changes there need the leader. */
const PAGES = [
  ["overview", "Overview", overview, false],
  ["keys", "Keys", keys, true],
  ["cluster", "Cluster", cluster, true],
  ["backups", "Backups", backups, false],
  ["access", "Access", access, true],
  ["audit", "Audit", audit, false],
  ["config", "Configuration", config, false],
];

const app = document.getElementById("app");

/** What the hash says: the page and its parameters. */
export function route() {
  const [name, parameters] = location.hash.replace(/^#\/?/, "").split("?");
  return { name, parameters: new URLSearchParams(parameters ?? "") };
}

let main = null;
let current = null;

function closePage() {
  current?.dispose?.();
  current = null;
}

// ---- The shell -------------------------------------------------------------------------------------------------

let shell = null;

function themeButton() {
  const control = h("button", { type: "button", class: "link-button", id: "theme" });
  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const show = () => setText(control, dark() ? "Light theme" : "Dark theme");
  control.addEventListener("click", () => {
    const next = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("vaylix-theme", next);
    } catch (_refused) {
      // It holds until the page is loaded again.
    }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
  return control;
}

function buildShell() {
  const links = PAGES.map(([name, title]) => h("a", { href: `#/${name}`, id: `nav-${name}` }, title));
  const pulse = h("span", { class: "pulse", id: "pulse" }, h("span", { class: "pulse-dot", "aria-hidden": "true" }), h("span", {}));
  const node = h("span", { class: "node-name" });
  const user = h("span", { class: "user-name" });
  const banners = h("div", { class: "banners", id: "banners", role: "region", "aria-label": "State of the node" });
  main = h("main", { id: "main", tabindex: "-1" });
  const element = h(
    "div",
    { class: "shell" },
    h("a", { class: "skip", href: "#main", onclick: skip }, "Skip to the content"),
    h(
      "header",
      { class: "side" },
      h("div", { class: "brand" }, brandMark(), h("span", { class: "brand-name" }, "Vaylix"), node),
      h("nav", { "aria-label": "Pages" }, links),
      h(
        "div",
        { class: "side-foot" },
        pulse,
        h("div", { class: "who" }, user, themeButton(), h("button", { type: "button", class: "link-button", id: "logout", hidden: !session.loggedIn, onclick: leave }, "Log out")),
      ),
    ),
    h("div", { class: "content" }, banners, main),
  );
  return { element, links, pulse, node, user, banners, shown: "" };
}

function skip(event) {
  event.preventDefault();
  main.focus();
}

async function leave() {
  try {
    await logout();
  } catch (refusal) {
    toast(`Logged out here; the node was not told: ${refusal.code}`);
  }
}

/** The mark of the brand, drawn rather than loaded. */
function brandMark() {
  const image = h("img", { alt: "", width: "22", height: "22" });
  image.src = "/console/icon.svg";
  return image;
}

/** What is to be said about the node right now: kind, text, where else to go. */
function notices() {
  const found = [];
  const { status } = live;
  if (live.state === "away") {
    found.push(["bad", "away", live.refusal?.unreachable === false
        ? `This node refuses to be watched (${live.refusal.code}, ${live.refusal.title}). The page tries again by itself; what it shows is from before.`
        : "This node does not answer. The page tries again by itself; what it shows is from before."]);
    return found;
  }
  if (status === null || live.state === "forbidden") return found;
  if (!status.ready) {
    const quorum = isLeaderless(status);
    const text = quorum
      ? `No leader: ${reasonText(status.reason)}. A majority of the voters is missing, or this node is cut off from it. Until that is over nothing can be changed here; nothing that was acknowledged is lost.`
      : `This node serves no clients: ${reasonText(status.reason)}.`;
    found.push(["bad", quorum ? "no-quorum" : "not-ready", text]);
  }
  if (status.maintenanceMode) {
    found.push(["warn", "maintenance", "Maintenance mode is on: only what changes nothing is let in, on every node."]);
  }
  if (status.draining) {
    found.push(["warn", "draining", "This node is drained: balancers send it no clients, and it does not stand for election."]);
  }
  const page = PAGES.find(([name]) => name === current?.name);
  if (page?.[3] && status.clustered && status.role !== "ROLE_LEADER" && status.leader) {
    const leader = live.leaderAdminAddress ? consoleAt(live.leaderAdminAddress, location.hash) : null;
    const name = visible(status.leader.name);
    found.push([
      "note",
      "not-leader",
      `This node does not lead; changes are made on ${name}.`,
      leader && h("a", { href: leader }, `Open the console of ${name}`),
    ]);
  }
  return found;
}

function drawShell() {
  if (shell === null) return;
  const text = {
    connecting: "Connecting …",
    open: "Live",
    resting: "Resting",
    away: `Away for ${span(Date.now() - live.awaySince)}`,
    forbidden: "Connected",
  }[live.state];
  const stale = live.state === "open" && live.heardAt > 0 && Date.now() - live.heardAt > STALE_MS;
  const kind = live.state === "away" || stale ? "bad" : live.state === "open" ? (live.status?.ready === false ? "warn" : "good") : "plain";
  shell.pulse.className = `pulse ${kind}`;
  setText(shell.pulse.lastChild, stale ? `Silent; last heard ${relative(live.heardAt)}` : text);
  setText(shell.node, visible(session.nodeName));
  setText(shell.user, visible(session.user));
  const found = notices();
  const signature = JSON.stringify(found.map((one) => one.slice(0, 3)).concat([[live.leaderAdminAddress, location.hash]]));
  if (signature === shell.shown) return;
  const before = shell.kinds ?? new Set();
  shell.shown = signature;
  shell.kinds = new Set(found.map(([, name]) => name));
  fill(
    shell.banners,
    found.map(([severity, name, notice, link]) =>
      h("p", { class: `banner ${severity}`, "data-notice": name }, notice, link && [" ", link]),
    ),
  );
  for (const [, name, notice] of found) if (!before.has(name)) announce(notice);
  if (before.has("away") && !shell.kinds.has("away")) announce("The node answers again.");
}

function openPage() {
  closePage();
  const wanted = route();
  const page = PAGES.find(([name]) => name === wanted.name) ?? PAGES[may("admin") ? 0 : 1];
  const [name, title, build] = page;
  for (const link of shell.links) {
    if (link.id === `nav-${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // Where the navigation is a row, it may be wider than the window.
  const link = shell.links.find((one) => one.id === `nav-${name}`);
  link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.clientWidth / 2 + link.offsetWidth / 2;
  document.title = `${title} · ${visible(session.nodeName) || "Vaylix"}`;
  fill(main);
  current = { name };
  const built = build(main, wanted.parameters);
  current = { name, dispose: typeof built === "function" ? built : built?.dispose, update: built?.update, epoch: live.epoch, built };
  shell.shown = "";
  drawShell();
}

function routed() {
  if (session.user === null || shell === null) return;
  const wanted = route();
  // A page that follows its own parameters keeps its state.
  if (current?.name === wanted.name && current.update) {
    current.update(wanted.parameters);
    shell.shown = "";
    drawShell();
    return;
  }
  openPage();
  document.getElementById("page-title")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function sessionChanged() {
  closeDialogs();
  closePage();
  liveView.forget();
  app.classList.remove("boot");
  if (session.user === null) {
    shell = null;
    document.title = "Log in · Vaylix";
    loginPage(app);
    return;
  }
  shell = buildShell();
  fill(app, shell.element);
  openPage();
  liveView.start();
}

// ---- Beginning -------------------------------------------------------------------------------------------------

liveView.subscribe(() => {
  drawShell();
  // The node was away: what was loaded from it may be old.
  if (current !== null && current.epoch !== live.epoch) {
    current.epoch = live.epoch;
    current.built?.recovered?.();
  }
});
onSession(sessionChanged);
addEventListener("hashchange", routed);
setInterval(drawShell, 1000);

async function begin() {
  try {
    await load();
  } catch (refusal) {
    app.classList.add("boot");
    fill(
      app,
      h("p", { class: "boot-brand" }, brandMark(), " Vaylix"),
      problem(refusal),
      h("p", { class: "muted" }, "The page tries again by itself."),
      button("Try now", begin),
    );
    setTimeout(() => session.user === null && app.querySelector(".problem") && begin(), 2000);
  }
}

void begin();

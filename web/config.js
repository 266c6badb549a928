// The settings that are in force, and where each comes from.

import { get } from "./api.js";
import { fill, h, setText } from "./dom.js";
import { enumName, visible, whole } from "./format.js";
import { badge, button, card, checkbox, empty, failed, field, loading, pageHead, table } from "./parts.js";

const KINDS = { flag: "accent", environment: "accent", file: "accent" };

/** Where a setting comes from, in a word. */
const source = (one) => enumName(one.source, "SETTING_SOURCE_") || "default";

/** A description, in which names stand between backticks. */
const prose = (text) => text.split("`").map((part, at) => (at % 2 === 1 ? h("code", {}, part) : part));

const COLUMNS = [
  { title: "Setting", kind: "mono nowrap", cell: (one) => visible(one.name) },
  { title: "Value", kind: "mono break", cell: (one) => (one.value ? visible(one.value) : h("span", { class: "muted" }, "not set")), text: (one) => one.value ?? "" },
  {
    title: "From",
    cell: (one) => [badge(source(one), KINDS[source(one)] ?? "plain"), one.origin && h("div", { class: "hint mono" }, visible(one.origin))],
    text: (one) => `${source(one)} ${one.origin ?? ""}`,
  },
  { title: "What it is", kind: "prose", cell: (one) => prose(one.description ?? ""), text: (one) => one.description ?? "" },
];

export function config(root) {
  const search = h("input", { type: "search", id: "config-search", spellcheck: "false" });
  const set = checkbox("Only what is not as it comes", false, draw);
  const state = h("div", {});
  const count = h("p", { class: "muted" });
  let settings = null;
  const groups = h("div", { class: "stack settings" });
  const tables = new Map();

  /** The table of a group of settings, with its card. */
  function tableOf(group) {
    if (!tables.has(group)) {
      const list = table({ caption: group, key: (one) => one.name, columns: COLUMNS });
      tables.set(group, { list, node: card(group, list.node) });
      groups.append(tables.get(group).node);
    }
    return tables.get(group);
  }

  search.addEventListener("input", draw);
  fill(
    root,
    pageHead("Configuration", button("Refresh", () => load())),
    h("p", { class: "lead" }, "What this node was started with. Settings are changed where they come from, and hold from the next start on."),
    h("div", { class: "toolbar" }, field("Search", search), set.node, count),
    state,
    groups,
  );

  function draw() {
    if (settings === null) return;
    const wanted = search.value.trim().toLowerCase();
    const rows = settings.filter((one) => {
      if (set.box.checked && source(one) === "default") return false;
      return `${one.name} ${one.value ?? ""} ${one.description ?? ""} ${one.group ?? ""}`.toLowerCase().includes(wanted);
    });
    for (const one of settings) tableOf(one.group || "Settings");
    for (const [group, one] of tables) {
      const own = rows.filter((row) => (row.group || "Settings") === group);
      one.list.set(own);
      one.node.hidden = own.length === 0;
    }
    setText(count, `${whole(rows.length)} of ${whole(settings.length)}`);
    fill(state, rows.length === 0 ? empty("No setting matches", "Change the search.") : null);
  }

  async function load() {
    if (settings === null) fill(state, loading("Loading the settings"));
    try {
      settings = (await get("/v1/settings")).settings ?? [];
      draw();
    } catch (refusal) {
      settings = null;
      tables.clear();
      fill(groups);
      fill(state, failed(refusal, "admin on *", "the settings", load));
    }
  }

  void load();
  return { recovered: load };
}

// Keys and their values.

import { get, path, put, query, Refusal, remove } from "./api.js";
import { fill, h, setText } from "./dom.js";
import {
  asText,
  bytes,
  fromBase64,
  fromHex,
  hexDump,
  many,
  moment,
  parseSpan,
  prettyJson,
  relative,
  toBase64,
  toHex,
  visible,
  whole,
} from "./format.js";
import { busy, button, checkbox, choices, confirm, empty, facts, failed, field, formDialog, loading, pageHead, problem, table, toast } from "./parts.js";
import { session } from "./session.js";

const PAGE_SIZE = 100;
/** A dump shows this much at first. */
const DUMP_BYTES = 16_384;
/** What fits into a request: its body has at most 256 KiB, and base64 takes four bytes for three. */
const VALUE_BYTES_MAX = 190_000;
/** Documents with more lines are compared without marking what differs. */
const COMPARE_LINES_MAX = 1500;

/** What was being written when the page was left or the session ended: by key. Forgotten with the page. */
const drafts = new Map();

const hash = (parameters) => query("#/keys", parameters);

/** When a key of the list expires; the list is as old as its last load. */
function expiryText(expiresAtMs) {
  if (Number(expiresAtMs ?? 0) === 0) return "never";
  return Number(expiresAtMs) <= Date.now() ? "expired" : relative(expiresAtMs);
}

/** The bytes that somebody has typed, or null. */
const typedBytes = (mode, text) => (mode === "hex" ? fromHex(text) : new TextEncoder().encode(text));

/** A span of time in a field; empty is none. */
function spanOf(text) {
  if (text.trim() === "") return 0;
  const ms = parseSpan(text);
  if (ms === null || ms <= 0) {
    throw new Refusal({
      status: 400,
      code: "SRV-030",
      title: "Invalid Arguments",
      detail: `"${text}" is no span of time`,
      retry: "never",
    });
  }
  return ms;
}

// ---- The list --------------------------------------------------------------------------------------------------

export function keys(root, parameters) {
  const prefix = h("input", { type: "search", id: "keys-prefix", placeholder: "app:", spellcheck: "false", autocapitalize: "none" });
  const glob = h("input", { type: "search", id: "keys-glob", placeholder: "*flag*", spellcheck: "false", autocapitalize: "none" });
  const state = h("div", {});
  const groups = h("div", { class: "groups" });
  const count = h("p", { class: "muted", id: "keys-count" });
  const back = button("Previous", () => turn(-1), { id: "keys-previous" });
  const next = button("Next", () => turn(1), { id: "keys-next" });
  const pager = h("div", { class: "pager" }, count, back, next);
  const detail = h("section", { class: "detail", id: "key-detail", "aria-label": "Key" });
  const split = h("div", { class: "split" });

  let shown = { prefix: null, glob: null };
  let selected = null;
  /** Tokens of the pages up to this one. */
  let tokens = [""];
  let nextToken = "";
  let rows = [];
  let load = 0;
  let panel = null;

  const list = table({
    caption: "Keys",
    key: (row) => row.key,
    columns: [
      {
        title: "Key",
        kind: "mono",
        cell: (row) => h("a", { href: hash({ ...shown, key: row.key }), class: "key-link" }, row.key === "" ? "(empty)" : visible(row.key)),
        text: (row) => `${row.key}\n${shown.prefix}\n${shown.glob}`,
      },
      { title: "Version", kind: "number", cell: (row) => whole(row.version) },
      { title: "Size", kind: "number", cell: (row) => bytes(row.sizeBytes) },
      { title: "Expires", kind: "nowrap", cell: (row) => expiryText(row.expiresAtMs) },
    ],
    rowAttributes: (row) => ({ "aria-current": row.key === selected ? "true" : null }),
  });

  const search = h(
    "form",
    { class: "toolbar", role: "search", onsubmit: (event) => (event.preventDefault(), go()) },
    field("Prefix", prefix),
    field("Filter", glob, "* is any run of characters, ? is one"),
    h("button", { type: "submit", class: "button", id: "keys-search" }, "Show"),
  );
  function go() {
    const wanted = hash({ prefix: prefix.value, glob: glob.value });
    if (location.hash === wanted) void reload();
    else location.hash = wanted;
  }

  fill(
    root,
    pageHead("Keys", button("New key", () => newKey(prefix.value, openKey), { kind: "primary", id: "key-new" }), button("Refresh", () => reload(), { id: "keys-refresh" })),
    split,
  );
  fill(split, h("div", { class: "split-list" }, search, groups, state, list.node, pager), detail);

  function openKey(key) {
    void reload();
    location.hash = hash({ ...shown, key });
  }

  async function loadPage() {
    load += 1;
    const own = load;
    if (rows.length === 0) fill(state, loading("Loading keys"));
    back.disabled = next.disabled = true;
    try {
      const page = await get(
        query("/v1/keys", { prefix: shown.prefix, glob: shown.glob, pageSize: PAGE_SIZE, pageToken: tokens.at(-1) }),
      );
      if (own !== load) return;
      rows = page.keys ?? [];
      nextToken = page.nextToken ?? "";
      draw();
    } catch (refusal) {
      if (own !== load) return;
      rows = [];
      nextToken = "";
      draw();
      fill(state, failed(refusal, "read, on a pattern that covers the prefix,", "these keys", () => loadPage()));
      if (refusal.forbidden) state.append(readable());
    }
  }

  /** What this user may read, to begin with. */
  function readable() {
    const patterns = session.rights.filter((right) => right.permission === "read").map((right) => right.pattern);
    if (patterns.length === 0) return h("p", { class: "hint" }, "You may read no keys.");
    const link = (pattern) => {
      const literal = /^([^*?]*)\*$/.exec(pattern);
      return h("a", { class: "chip mono", href: hash(literal ? { prefix: literal[1] } : { glob: pattern }) }, visible(pattern));
    };
    return h("p", { class: "hint" }, "You may read ", patterns.map(link));
  }

  function draw() {
    list.set(rows);
    list.node.hidden = rows.length === 0;
    const filtered = shown.prefix !== "" || shown.glob !== "";
    fill(
      state,
      rows.length > 0
        ? null
        : nextToken !== ""
          ? empty("Nothing on this page matches", "Go on to the next page.")
          : filtered
            ? empty("No key matches", "Change the prefix or the filter.")
            : empty("No keys yet", "Write the first one with New key."),
    );
    const first = (tokens.length - 1) * PAGE_SIZE;
    setText(count, rows.length === 0 ? "" : tokens.length === 1 && nextToken === "" ? many(rows.length, "key") : `Page ${whole(tokens.length)}, ${many(rows.length, "key")}`);
    pager.hidden = tokens.length === 1 && nextToken === "" && rows.length === 0;
    back.disabled = first === 0;
    next.disabled = nextToken === "";
    drawGroups();
  }

  /** Prefixes, up to the next colon or slash, that keys of this page share. */
  function drawGroups() {
    const counts = new Map();
    for (const row of rows) {
      const rest = row.key.slice(shown.prefix.length);
      const cut = rest.search(/[:/]/);
      if (cut < 0) continue;
      const group = row.key.slice(0, shown.prefix.length + cut + 1);
      counts.set(group, (counts.get(group) ?? 0) + 1);
    }
    const found = [...counts].filter(([, shared]) => shared > 1).slice(0, 12);
    const parents = [];
    if (shown.prefix !== "") {
      parents.push(h("a", { class: "chip", href: hash({ glob: shown.glob }) }, "all keys"));
      for (const [at, letter] of [...shown.prefix].entries()) {
        const parent = [...shown.prefix].slice(0, at + 1).join("");
        if ((letter === ":" || letter === "/") && parent !== shown.prefix) {
          parents.push(h("a", { class: "chip mono", href: hash({ prefix: parent, glob: shown.glob }) }, visible(parent)));
        }
      }
    }
    fill(
      groups,
      parents,
      found.length > 1 || (found.length === 1 && found[0][1] < rows.length)
        ? found.map(([group, shared]) =>
            h("a", { class: "chip mono", href: hash({ prefix: group, glob: shown.glob }) }, visible(group), " ", h("span", { class: "muted" }, nextToken === "" && tokens.length === 1 ? whole(shared) : `${whole(shared)}+`)),
          )
        : null,
    );
    groups.hidden = groups.childElementCount === 0;
  }

  function turn(step) {
    if (step > 0) tokens.push(nextToken);
    else tokens.pop();
    void loadPage().then(() => list.node.scrollIntoView({ block: "nearest" }));
  }

  async function reload() {
    await loadPage();
    panel?.reload();
  }

  function update(wanted) {
    const asked = { prefix: wanted.get("prefix") ?? "", glob: wanted.get("glob") ?? "" };
    const key = wanted.get("key");
    const other = asked.prefix !== shown.prefix || asked.glob !== shown.glob;
    const before = selected;
    selected = key;
    if (other) {
      shown = asked;
      prefix.value = asked.prefix;
      glob.value = asked.glob;
      tokens = [""];
      rows = [];
      void loadPage();
    } else {
      list.set(rows);
    }
    split.classList.toggle("has-detail", key !== null);
    if (key === null) {
      panel?.dispose();
      panel = null;
      fill(detail, h("p", { class: "muted detail-hint" }, "Choose a key to see its value."));
    } else if (key !== before || panel === null) {
      panel?.dispose();
      panel = keyPanel(detail, key, {
        close: () => (location.hash = hash(shown)),
        changed: () => void loadPage(),
      });
      if (before !== null || !other) detail.querySelector("h2")?.focus({ preventScroll: true });
    }
  }

  update(parameters);
  return { update, recovered: () => reload(), dispose: () => panel?.dispose() };
}

function newKey(prefix, created) {
  const value = h("textarea", { rows: "6", spellcheck: "false", class: "mono" });
  formDialog({
    title: "New key",
    label: "Write",
    inputs: [
      { name: "key", label: "Key", control: h("input", { type: "text", id: "new-key", value: prefix, autocomplete: "off", spellcheck: "false", autocapitalize: "none", required: true, autofocus: true }) },
      { name: "value", label: "Value", control: value },
      { name: "ttl", label: "Expires after", control: h("input", { type: "text", autocomplete: "off" }), hint: "Like 90 s, 15 min, 2 h or 1 d; empty for never" },
    ],
    act: ({ key, value: text, ttl }) => {
      const body = { value: toBase64(new TextEncoder().encode(text)), expectedVersion: "0" };
      const ttlMs = spanOf(ttl);
      if (ttlMs > 0) body.ttlMs = String(ttlMs);
      return put(path`/v1/keys/${key}`, body);
    },
    done: (_answer, { key }) => {
      toast("Written");
      created(key);
    },
  });
}

// ---- One key ---------------------------------------------------------------------------------------------------

function keyPanel(root, key, { close, changed }) {
  let entry = null;
  let data = new Uint8Array();
  let view = null;
  let disposed = false;
  const left = h("span", {});
  const body = h("div", {});
  fill(
    root,
    h(
      "div",
      { class: "detail-head" },
      h("h2", { class: "mono", tabindex: "-1" }, key === "" ? "(empty)" : visible(key)),
      button("Close", close, { kind: "quiet", id: "key-close" }),
    ),
    body,
  );
  const timer = setInterval(() => entry && !document.hidden && setText(left, lifetime()), 1000);

  const lifetime = () =>
    Number(entry.expiresAtMs ?? 0) === 0 ? "never" : `${relative(entry.expiresAtMs)} (${moment(entry.expiresAtMs)})`;

  async function load() {
    if (entry === null) fill(body, loading("Loading the value"));
    try {
      const answer = await get(path`/v1/keys/${key}`);
      if (disposed) return;
      take(answer.entry ?? {});
      if (drafts.has(key)) edit(drafts.get(key));
      else show();
    } catch (refusal) {
      if (disposed) return;
      entry = null;
      if (refusal.status === 404) {
        drafts.delete(key);
        fill(body, h("div", { "data-code": refusal.code }, empty("This key does not exist", "It may have been deleted, or it has expired. "), h("p", { class: "muted" }, h("span", { class: "code" }, refusal.code), " ", refusal.title)));
      } else {
        fill(body, failed(refusal, "read, on this key,", "this value", load));
      }
    }
  }

  function take(found) {
    entry = found;
    data = fromBase64(found.value);
    setText(left, lifetime());
  }

  function show() {
    const text = asText(data);
    const json = text === null ? null : prettyJson(text);
    view = view ?? (json !== null ? "json" : text !== null ? "text" : "hex");
    if (view === "json" && json === null) view = "text";
    if (view === "text" && text === null) view = "hex";
    const shown = h("div", {});
    const drawValue = () => {
      if (data.length === 0) return fill(shown, h("p", { class: "muted" }, "The value is empty."));
      if (view === "hex") {
        const all = button("Show all of it", () => fill(shown, value(hexDump(data))), { kind: "quiet" });
        return fill(shown, value(hexDump(data, DUMP_BYTES)), data.length > DUMP_BYTES && all);
      }
      return fill(shown, value(view === "json" ? json : text));
    };
    const value = (content) => h("pre", { class: view === "hex" ? "value dump" : "value", id: "key-value", tabindex: "0", "aria-label": "Value" }, content);
    fill(
      body,
      facts([
        ["Version", h("span", { id: "key-version" }, whole(entry.version))],
        ["Size", bytes(data.length)],
        ["Expires", left],
      ]),
      h(
        "div",
        { class: "bar" },
        choices(
          "View",
          [
            ["text", "Text", text === null],
            ["json", "JSON", json === null],
            ["hex", "Hex", false],
          ],
          view,
          (chosen) => {
            view = chosen;
            drawValue();
          },
        ),
        h(
          "div",
          { class: "actions" },
          button("Edit", () => edit(null), { id: "key-edit", disabled: data.length > VALUE_BYTES_MAX, title: data.length > VALUE_BYTES_MAX ? "Too large to be edited here" : undefined }),
          button("Expiry", setExpiry, { id: "key-expiry" }),
          button("Delete", drop, { kind: "danger-quiet", id: "key-delete" }),
        ),
      ),
      shown,
    );
    drawValue();
  }

  function edit(draft) {
    const text = asText(data);
    const mode = draft?.mode ?? (text === null ? "hex" : "text");
    const keep = checkbox("Keep the expiry", Number(entry.expiresAtMs ?? 0) !== 0);
    const area = h("textarea", {
      id: "key-text",
      class: "mono editor",
      rows: "14",
      spellcheck: "false",
      value: draft?.text ?? (mode === "hex" ? toHex(data) : text),
    });
    const trouble = h("div", {});
    const based = draft?.version ?? entry.version;
    const remember = () => drafts.set(key, { text: area.value, mode, version: based });
    area.addEventListener("input", remember);
    const cancel = () => {
      drafts.delete(key);
      show();
    };
    const save = h("button", { type: "submit", class: "button primary", id: "key-save" }, `Save over version ${whole(based)}`);
    const submit = (event) => {
      event.preventDefault();
      void busy(save, async () => {
        fill(trouble);
        const value = typedBytes(mode, area.value);
        if (value === null) {
          return fill(trouble, problem(new Refusal({ status: 400, code: "SRV-030", title: "Invalid Arguments", detail: "these are not pairs of hexadecimal digits", retry: "never" })));
        }
        try {
          const wanted = { value: toBase64(value), expectedVersion: String(based) };
          if (keep.box.checked && Number(entry.expiresAtMs ?? 0) !== 0) wanted.keepTtl = true;
          await put(path`/v1/keys/${key}`, wanted);
          drafts.delete(key);
          toast("Saved");
          await load();
          changed();
        } catch (refusal) {
          if (refusal.status === 409) await conflict(refusal, area.value, mode, based);
          else fill(trouble, problem(refusal));
        }
      });
    };
    fill(
      body,
      h(
        "form",
        { onsubmit: submit },
        field(mode === "hex" ? "Value, as pairs of hexadecimal digits" : "Value", area),
        Number(entry.expiresAtMs ?? 0) !== 0 && keep.node,
        trouble,
        h("div", { class: "dialog-actions" }, button("Cancel", cancel, { id: "key-cancel" }), save),
      ),
    );
    if (draft === null) remember();
    area.focus();
  }

  /** Somebody else was faster: both sides, and what can be done. */
  async function conflict(refusal, text, mode, based) {
    let theirs;
    try {
      theirs = (await get(path`/v1/keys/${key}`)).entry ?? {};
    } catch (missing) {
      if (missing.status !== 404) return fill(body, problem(missing, () => conflict(refusal, text, mode, based)));
      theirs = null;
    }
    if (disposed) return;
    if (theirs !== null) take(theirs);
    const now = theirs === null ? "0" : theirs.version;
    const other = theirs === null ? "" : mode === "hex" ? toHex(data) : asText(data) ?? hexDump(data, DUMP_BYTES);
    const [mine, other_] = compare(text, other);
    const again = () => {
      drafts.set(key, { text, mode, version: now });
      if (theirs === null) entry = { key, version: "0" };
      edit(drafts.get(key));
    };
    const discard = () => {
      drafts.delete(key);
      if (theirs === null) return load();
      show();
      changed();
    };
    fill(
      body,
      h(
        "div",
        { class: "conflict", id: "key-conflict", role: "alert", "data-code": refusal.code },
        h("p", { class: "problem-title" }, h("span", { class: "code" }, refusal.code), " The key has changed meanwhile"),
        h(
          "p",
          {},
          theirs === null
            ? `You edited version ${whole(based)}; the key has been deleted since. Nothing of yours was written.`
            : `You edited version ${whole(based)}; it is at version ${whole(now)} now. Nothing of yours was written.`,
        ),
        h(
          "div",
          { class: "sides" },
          h("section", { "aria-label": "Yours" }, h("h3", {}, "Yours"), h("pre", { class: "value", id: "conflict-mine" }, mine)),
          h(
            "section",
            { "aria-label": "There now" },
            h("h3", {}, theirs === null ? "There now: nothing" : `There now: version ${whole(now)}`),
            h("pre", { class: "value", id: "conflict-theirs" }, other_),
          ),
        ),
        h(
          "div",
          { class: "dialog-actions" },
          button("Discard mine", discard, { id: "conflict-discard" }),
          button(theirs === null ? "Edit mine, to create it anew" : `Edit mine on top of version ${whole(now)}`, again, { kind: "primary", id: "conflict-again" }),
        ),
      ),
    );
  }

  function setExpiry() {
    formDialog({
      title: "Expiry",
      intro: `Of ${visible(key)}. Now: ${lifetime()}.`,
      label: "Set",
      inputs: [{ name: "ttl", label: "Expires after", control: h("input", { type: "text", id: "expiry-span", autocomplete: "off", autofocus: true }), hint: "Like 90 s, 15 min, 2 h or 1 d; empty for never" }],
      act: ({ ttl }) => put(path`/v1/keys/${key}/expiry`, { ttlMs: String(spanOf(ttl)) }),
      done: () => {
        toast("Expiry set");
        void load();
        changed();
      },
    });
  }

  function drop() {
    const version = entry.version;
    confirm({
      title: "Delete this key?",
      text: h("p", {}, h("span", { class: "mono" }, visible(key)), ` goes, if it is still version ${whole(version)}.`),
      label: "Delete",
      act: () => remove(query(path`/v1/keys/${key}`, { expectedVersion: version })),
      done: () => {
        drafts.delete(key);
        toast("Deleted");
        changed();
        close();
      },
    });
  }

  void load();
  return {
    reload: () => body.querySelector("#key-text, #key-conflict") === null && load(),
    dispose: () => {
      disposed = true;
      clearInterval(timer);
    },
  };
}

/** Two texts as lines, those that only one of them has being marked. */
function compare(mine, theirs) {
  const left = mine.split("\n");
  const right = theirs.split("\n");
  if (left.length > COMPARE_LINES_MAX || right.length > COMPARE_LINES_MAX) return [mine, theirs];
  // Lengths of the longest common subsequences of what is left, from the end.
  const lengths = Array.from({ length: left.length + 1 }, () => new Uint16Array(right.length + 1));
  for (let at = left.length - 1; at >= 0; at -= 1) {
    for (let to = right.length - 1; to >= 0; to -= 1) {
      lengths[at][to] = left[at] === right[to] ? lengths[at + 1][to + 1] + 1 : Math.max(lengths[at + 1][to], lengths[at][to + 1]);
    }
  }
  const sides = [[], []];
  let at = 0;
  let to = 0;
  while (at < left.length || to < right.length) {
    if (at < left.length && to < right.length && left[at] === right[to]) {
      sides[0].push(`${left[at]}\n`);
      sides[1].push(`${right[to]}\n`);
      at += 1;
      to += 1;
    } else if (to >= right.length || (at < left.length && lengths[at + 1][to] >= lengths[at][to + 1])) {
      sides[0].push(h("mark", {}, `${left[at]}\n`));
      at += 1;
    } else {
      sides[1].push(h("mark", {}, `${right[to]}\n`));
      to += 1;
    }
  }
  return sides;
}

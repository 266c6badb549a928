// The pieces that pages are put together from.

import { announce, fill, h, setText, uniqueId } from "./dom.js";
import { visible } from "./format.js";

/** The address of another node's console, from what a node said; null when it is no address. */
export function consoleAt(address, route = "") {
  try {
    const url = new URL(`${location.protocol}//${address}/`);
    if (url.host === "" || url.username !== "" || url.pathname !== "/" || url.search !== "") return null;
    return url.href + route;
  } catch (_malformed) {
    return null;
  }
}

/** A refusal for people: what it is, its stable code, what to do; with a way to try again, if there is one. */
export function problem(refusal, again) {
  const code = refusal.code ?? "page";
  const leader = refusal.leaderAdminAddress ? consoleAt(refusal.leaderAdminAddress, location.hash) : null;
  return h(
    "div",
    { class: "problem", role: "alert", "data-code": code },
    h("p", { class: "problem-title" }, h("span", { class: "code" }, code), " ", refusal.title ?? "The page failed"),
    refusal.message && h("p", { class: "problem-detail" }, visible(refusal.message)),
    h("p", {}, refusal.advice ?? "This is a defect of the page. Load it again."),
    leader && h("p", {}, h("a", { href: leader }, `Open the console of the leader, ${refusal.leaderAdminAddress}`)),
    again && h("button", { type: "button", class: "button", onclick: again }, "Try again"),
  );
}

/** A page or panel that the user may not see. */
export function forbidden(refusal, permission, what) {
  return h(
    "div",
    { class: "empty", "data-code": refusal.code },
    h("p", { class: "empty-title" }, `You may not see ${what}`),
    h("p", {}, `It takes the permission ${permission}. `, refusal.advice),
    h("p", { class: "muted" }, h("span", { class: "code" }, refusal.code), " ", refusal.title),
  );
}

/** What stands in for data that failed to load. */
export function failed(refusal, permission, what, again) {
  return refusal.forbidden ? forbidden(refusal, permission, what) : problem(refusal, again);
}

export function empty(title, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), more.length > 0 && h("p", {}, ...more));
}

export function loading(what) {
  return h("div", { class: "loading", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), ` ${what} …`);
}

export function badge(text, kind = "plain", attributes = {}) {
  return h("span", { class: `badge ${kind}`, ...attributes }, text);
}

/** A heading with what can be done beside it. */
export function pageHead(title, ...actions) {
  return h(
    "div",
    { class: "page-head" },
    h("h1", { id: "page-title", tabindex: "-1" }, title),
    h("div", { class: "actions" }, ...actions),
  );
}

export function button(label, onclick, { kind = "", ...attributes } = {}) {
  return h("button", { type: "button", class: `button ${kind}`.trim(), onclick, ...attributes }, label);
}

/** A labelled field. `control` gets an id; `hint` says what is expected. */
export function field(label, control, hint) {
  const id = control.id || uniqueId("field");
  control.id = id;
  const hintId = `${id}-hint`;
  if (hint) control.setAttribute("aria-describedby", hintId);
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    control,
    hint && h("p", { class: "hint", id: hintId }, hint),
  );
}

export function checkbox(label, checked, onchange) {
  const box = h("input", { type: "checkbox", checked, onchange });
  return { box, node: h("label", { class: "check" }, box, " ", label) };
}

let toastTimer = 0;
/** Says for a moment that something was done. */
export function toast(text) {
  let node = document.getElementById("toast");
  if (node === null) {
    node = h("div", { id: "toast", class: "toast", "aria-hidden": "true" });
    document.body.append(node);
  }
  node.textContent = text;
  node.classList.add("shown");
  announce(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => node.classList.remove("shown"), 4000);
}

/** Has a control show that it is at work until `task` ends. */
export async function busy(control, task) {
  if (control.getAttribute("aria-busy") === "true") return undefined;
  control.setAttribute("aria-busy", "true");
  control.disabled = true;
  try {
    return await task();
  } finally {
    control.removeAttribute("aria-busy");
    control.disabled = false;
  }
}

/**
 * A table whose rows are kept by key: a cell is drawn anew only when what it shows has changed, so focus and selection
 * survive updates.
 *
 * A column has `title`, `cell(row)`, which gives text or nodes, and perhaps `text(row)`, what these depend on, and `kind`
 * (`number`, `mono`, `actions`).
 */
export function table({ columns, key, caption, rowAttributes = () => ({}) }) {
  const body = h("tbody", { role: "rowgroup" });
  const kept = new Map();
  const node = h(
    "table",
    { role: "table", class: "table" },
    h("caption", { class: "visually-hidden" }, caption),
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        columns.map((column) =>
          h(
            "th",
            { role: "columnheader", scope: "col", class: column.kind },
            column.kind === "actions" ? h("span", { class: "visually-hidden" }, column.title) : column.title,
          ),
        ),
      ),
    ),
    body,
  );
  const drawCell = (column, row, cell) => {
    const content = column.cell(row);
    const shown = column.text ? column.text(row) : content;
    if (typeof shown === "string" && cell.shown === shown) return;
    cell.shown = shown;
    fill(cell.node, content);
  };
  function set(rows) {
    const present = new Set();
    rows.forEach((row, at) => {
      const id = String(key(row));
      present.add(id);
      let entry = kept.get(id);
      if (entry === undefined) {
        const cells = columns.map((column, index) => ({
          node: h("td", {
            role: "cell",
            class: column.kind,
            "data-label": column.kind === "actions" || index === 0 ? undefined : column.title,
          }),
        }));
        entry = { cells, node: h("tr", { role: "row" }, cells.map((cell) => cell.node)) };
        kept.set(id, entry);
      }
      for (const [name, value] of Object.entries(rowAttributes(row))) {
        if (value === null || value === false) entry.node.removeAttribute(name);
        else entry.node.setAttribute(name, value);
      }
      columns.forEach((column, index) => drawCell(column, row, entry.cells[index]));
      if (body.children[at] !== entry.node) body.insertBefore(entry.node, body.children[at] ?? null);
    });
    for (const [id, entry] of kept) {
      if (present.has(id)) continue;
      entry.node.remove();
      kept.delete(id);
    }
  }
  return { node: h("div", { class: "table-wrap" }, node), set };
}

/** Terms and what they are, as a list of definitions. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs.filter(Boolean).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))),
  );
}

/** A section with a heading. */
export function card(title, ...content) {
  const id = uniqueId("card");
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...content);
}

/** A group of choices of which one holds. `choose` hears of the next one. */
export function choices(label, options, chosen, choose) {
  const name = uniqueId("choice");
  const node = h(
    "div",
    { class: "segments", role: "radiogroup", "aria-label": label },
    options.map(([value, text, disabled]) =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name,
          value,
          checked: value === chosen,
          disabled: Boolean(disabled),
          onchange: () => choose(value),
        }),
        h("span", {}, text),
      ),
    ),
  );
  return node;
}

/**
 * A dialog over the page. `build` fills it and gets `close` and `show`, which replaces the content; the focus goes back to
 * where it was. While `hold` is set it cannot be dismissed by mistake.
 */
export function dialog(title, build) {
  const id = uniqueId("dialog");
  const content = h("div", { class: "dialog-body" });
  const state = { hold: false };
  const closer = h("button", { type: "button", class: "icon-button", "aria-label": "Close" }, "✕");
  const node = h(
    "dialog",
    { class: "dialog", "aria-labelledby": id },
    h("div", { class: "dialog-head" }, h("h2", { id }, title), closer),
    content,
  );
  const before = document.activeElement;
  const close = () => node.close();
  closer.addEventListener("click", close);
  node.addEventListener("cancel", (event) => state.hold && event.preventDefault());
  node.addEventListener("close", () => {
    node.remove();
    state.closed?.();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  const show = (...nodes) => {
    fill(content, ...nodes);
    if (node.open) (content.querySelector("[autofocus]") ?? content.querySelector(".button") ?? closer).focus();
  };
  document.body.append(node);
  build({ close, show, state });
  node.showModal();
  node.querySelector("[autofocus]")?.focus();
  return node;
}

/** Closes dialogs of somebody who is logged out. */
export function closeDialogs() {
  for (const node of document.querySelectorAll("dialog[open]")) node.close();
}

/**
 * Asks before `act`, shows that it is under way, and what went wrong. `typed` is a text that has to be typed first.
 */
export function confirm({ title, text, label, danger = true, typed, act, done }) {
  return dialog(title, ({ close, show, state }) => {
    const trouble = h("div", {});
    const input = typed && h("input", { type: "text", autocomplete: "off", spellcheck: "false", autofocus: true });
    const yes = h(
      "button",
      { type: "submit", class: danger ? "button danger" : "button primary", disabled: Boolean(typed), autofocus: !typed },
      label,
    );
    input?.addEventListener("input", () => (yes.disabled = input.value !== typed));
    const submit = (event) => {
      event.preventDefault();
      if (typed && input.value !== typed) return;
      void busy(yes, async () => {
        state.hold = true;
        fill(trouble);
        try {
          const answer = await act();
          close();
          done?.(answer);
        } catch (refusal) {
          fill(trouble, problem(refusal));
        } finally {
          state.hold = false;
        }
      });
    };
    show(
      h(
        "form",
        { onsubmit: submit },
        text,
        typed && field("To go on, type the name", input, visible(typed)),
        trouble,
        h("div", { class: "dialog-actions" }, button("Cancel", close), yes),
      ),
    );
  });
}

/** A form in a dialog. `act` gets the values of the inputs by name and may throw a refusal, which is shown in place. */
export function formDialog({ title, intro, inputs, label, act, done }) {
  return dialog(title, ({ close, show, state }) => {
    const trouble = h("div", {});
    const yes = h("button", { type: "submit", class: "button primary" }, label);
    const submit = (event) => {
      event.preventDefault();
      const values = Object.fromEntries(inputs.map((input) => [input.name, input.control.value]));
      void busy(yes, async () => {
        state.hold = true;
        fill(trouble);
        try {
          const answer = await act(values);
          close();
          done?.(answer, values);
        } catch (refusal) {
          fill(trouble, problem(refusal));
        } finally {
          state.hold = false;
        }
      });
    };
    show(
      h(
        "form",
        { onsubmit: submit },
        intro && h("p", {}, intro),
        inputs.map((input) => field(input.label, input.control, input.hint)),
        trouble,
        h("div", { class: "dialog-actions" }, button("Cancel", close), yes),
      ),
    );
  });
}

/** A line of text that tells how long something has been under way. */
export function elapsed(text) {
  const since = Date.now();
  const seconds = h("span", { class: "muted" });
  const node = h(
    "p",
    { class: "loading", role: "status" },
    h("span", { class: "spinner", "aria-hidden": "true" }),
    ` ${text} `,
    seconds,
  );
  const timer = setInterval(() => {
    if (!node.isConnected && Date.now() - since > 2000) return clearInterval(timer);
    setText(seconds, `${Math.round((Date.now() - since) / 1000)} s`);
  }, 1000);
  return node;
}

/**
 * A list that comes in pages: `fetchPage(token)` gives `{rows, nextToken}`. Returns `{node, reload}`.
 */
export function pagedList({ what, permission, fetchPage, list, emptyNode }) {
  const state = h("div", {});
  const more = h("div", { class: "more" });
  const node = h("div", {}, list.node, state, more);
  let rows = [];
  let turn = 0;
  async function loadPage(token) {
    turn += 1;
    const own = turn;
    if (rows.length === 0) fill(state, loading(`Loading ${what}`));
    try {
      const page = await fetchPage(token);
      if (own !== turn) return;
      rows = token === "" ? page.rows : rows.concat(page.rows);
      list.set(rows);
      list.node.hidden = rows.length === 0;
      fill(state, rows.length === 0 ? emptyNode() : null);
      fill(more, page.nextToken ? button("Load more", (event) => busy(event.target, () => loadPage(page.nextToken))) : null);
    } catch (refusal) {
      if (own !== turn) return;
      if (token === "") list.node.hidden = rows.length === 0;
      fill(state, failed(refusal, permission, what, () => loadPage(token)));
    }
  }
  list.node.hidden = true;
  return { node, reload: () => loadPage(""), rows: () => rows };
}

// The audit log of this node: as it is written, what was written before, and whether its chain holds.

import { post, query } from "./api.js";
import { fill, h, setText } from "./dom.js";
import { clock, moment, visible, whole } from "./format.js";
import { badge, busy, button, card, choices, empty, facts, failed, field, loading, pageHead, problem, table } from "./parts.js";
import { listen } from "./stream.js";

/** Rows that are kept on the page. */
const ROWS_MAX = 500;
const PAGE_SIZE = 200;
/** Events that the live view begins with. */
const LAST = 100;
const RETRY_MS = 2000;

const KINDS = { ok: "good", error: "bad", not_found: "plain" };

/** A moment of a field for dates and times, in milliseconds since 1970; 0 for none. */
const momentOf = (input) => (input.value === "" ? 0 : new Date(input.value).getTime());

export function audit(root) {
  const user = h("input", { type: "search", id: "audit-user", spellcheck: "false", autocapitalize: "none" });
  const type = h("input", { type: "search", id: "audit-type", spellcheck: "false", placeholder: "auth" });
  const status = h("select", { id: "audit-status" }, ["", "ok", "error", "not_found"].map((value) => h("option", { value }, value || "any")));
  const since = h("input", { type: "datetime-local", step: "1" });
  const until = h("input", { type: "datetime-local", step: "1" });
  const state = h("div", { role: "status" });
  const more = h("div", { class: "more" });
  const bounds = h("div", { class: "bounds" }, field("From", since), field("Until", until));
  const chain = h("div", {}, h("p", { class: "muted" }, "Each event holds a hash of itself and of the one before. Verifying reads the log of this node from its first event to its last."));
  const check = button("Verify the chain", () => busy(check, verify), { id: "audit-verify" });

  let mode = "live";
  let events = [];
  let controller = null;
  let turn = 0;

  const list = table({
    caption: "Events of the audit log",
    key: (event) => event.sequence,
    columns: [
      { title: "Time", cell: (event) => h("time", { title: moment(event.timestampMs) }, mode === "live" ? clock(event.timestampMs) : moment(event.timestampMs)), text: (event) => `${event.timestampMs} ${mode}` },
      { title: "Event", cell: (event) => h("strong", {}, visible(event.eventType)), text: (event) => event.eventType },
      { title: "User", cell: (event) => visible(event.user || "–"), kind: "break" },
      { title: "Status", cell: (event) => [badge(event.status ?? "", KINDS[event.status] ?? "plain"), event.errorCode && [" ", h("span", { class: "code" }, event.errorCode)]], text: (event) => `${event.status} ${event.errorCode}` },
      { title: "From", kind: "mono nowrap", cell: (event) => visible(event.peer || "–") },
      {
        title: "Details",
        kind: "break",
        cell: (event) =>
          Object.entries(event.details ?? {})
            .filter(([name]) => name !== "result")
            .map(([name, value]) => `${visible(name)}=${visible(value)}`)
            .join("  ") || (event.opcode ? visible(event.opcode) : ""),
      },
      { title: "Number", kind: "number", cell: (event) => whole(event.sequence) },
    ],
  });
  const form = h(
    "form",
    { class: "toolbar", role: "search", onsubmit: (event) => (event.preventDefault(), begin()) },
    field("User", user),
    field("Event type", type),
    field("Status", status),
    bounds,
    h("button", { type: "submit", class: "button", id: "audit-apply" }, "Apply"),
  );
  fill(
    root,
    pageHead("Audit", choices("What is shown", [["live", "Live"], ["past", "Past"]], mode, (chosen) => ((mode = chosen), begin())), check),
    h("div", { class: "stack" }, card("Chain", chain), card("Events", form, state, list.node, more)),
  );

  const filter = () => ({ user: user.value || undefined, eventType: type.value || undefined, status: status.value || undefined });

  function draw() {
    list.set(events);
    list.node.hidden = events.length === 0;
  }

  function begin() {
    controller?.abort();
    controller = null;
    events = [];
    turn += 1;
    bounds.hidden = mode === "live";
    fill(more);
    draw();
    if (mode === "live") follow();
    else void readPage("0", turn);
  }

  function follow() {
    if (document.hidden) return;
    controller = new AbortController();
    const { signal } = controller;
    fill(state, loading("Waiting for events"));
    const opened = () => fill(state, events.length === 0 ? h("p", { class: "muted" }, "Each new event appears here.") : null);
    let pending = false;
    const event = (name, data) => {
      if (name !== "audit" || data.event === undefined) return;
      // After a pause the last events come again.
      if (events.some((one) => one.sequence === data.event.sequence)) return;
      events.unshift(data.event);
      if (events.length > ROWS_MAX) events.length = ROWS_MAX;
      if (pending) return;
      pending = true;
      requestAnimationFrame(() => {
        pending = false;
        if (signal.aborted) return;
        fill(state);
        draw();
      });
    };
    const run = async () => {
      while (!signal.aborted) {
        try {
          await listen(query("/v1/audit/tail", { ...filter(), last: LAST }), { opened, event, signal });
        } catch (refusal) {
          if (signal.aborted || refusal.signedOut) return;
          if (!refusal.unreachable && refusal.code !== "SRV-005") {
            fill(state, failed(refusal, "admin on *", "the audit log", begin));
            return;
          }
          fill(state, h("p", { class: "muted" }, "The node does not answer; trying again."));
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    };
    void run();
  }

  async function readPage(after, own) {
    if (events.length === 0) fill(state, loading("Reading the audit log"));
    try {
      const bound = {};
      if (momentOf(since) > 0) bound.sinceMs = String(momentOf(since));
      if (momentOf(until) > 0) bound.untilMs = String(momentOf(until));
      const page = await post("/v1/audit/events", { afterSequence: after, size: PAGE_SIZE, filter: { ...filter(), ...bound } });
      if (own !== turn) return;
      events = events.concat(page.events ?? []);
      draw();
      fill(state, events.length === 0 ? empty(page.more ? "Nothing in this part" : "No event matches", page.more ? "There is more to be read." : "Change the filter or the times.") : null);
      fill(more, page.more ? button("Read on", (event) => busy(event.target, () => readPage(page.nextSequence, own))) : events.length > 0 ? h("p", { class: "muted" }, "That is all of it.") : null);
    } catch (refusal) {
      if (own === turn) fill(state, failed(refusal, "admin on *", "the audit log", () => readPage(after, own)));
    }
  }

  async function verify() {
    fill(chain, loading("Verifying the chain"));
    try {
      const found = await post("/v1/audit/verify");
      fill(
        chain,
        h("p", { class: "outcome good", id: "audit-verdict", role: "status" }, "The chain holds, from its first event to its last."),
        facts([
          ["Events", `${whole(found.eventCount)}, numbers ${whole(found.firstSequence)} to ${whole(found.lastSequence)}`],
          ["Files", whole(found.fileCount)],
          ["Last hash", h("span", { class: "mono break" }, found.lastHash ?? "")],
        ]),
        h("p", { class: "hint" }, "Note the last number and hash elsewhere: they show later whether anything up to them was changed."),
      );
    } catch (refusal) {
      fill(chain, refusal.forbidden ? failed(refusal, "admin on *", "the audit log") : problem(refusal));
    }
  }

  function visibility() {
    if (mode !== "live") return;
    if (document.hidden) {
      controller?.abort();
      setText(state, "Resting while the page is hidden.");
    } else if (controller === null || controller.signal.aborted) {
      follow();
    }
  }

  document.addEventListener("visibilitychange", visibility);
  begin();
  return {
    dispose: () => {
      turn += 1;
      controller?.abort();
      document.removeEventListener("visibilitychange", visibility);
    },
  };
}

// The members and the office: what is to happen is shown before, how it goes after.

import { path, post, put, query, remove } from "./api.js";
import { fill, h, setText } from "./dom.js";
import { many, relative, visible, whole } from "./format.js";
import { live, subscribe } from "./live.js";
import { memberColumns, memberRows } from "./overview.js";
import { badge, button, busy, card, confirm, dialog, elapsed, empty, facts, field, forbidden, loading, pageHead, problem, table, toast } from "./parts.js";
import { session } from "./session.js";

/** What a change does to the majority. */
function planTable(plan) {
  const rows = [
    ["Members with a vote", "voterCount"],
    ["Needed for a majority", "quorumSize"],
    ["May be lost", "failureTolerance"],
  ];
  const stages = [
    ["Before", plan.before],
    ["During", plan.during],
    ["After", plan.after],
  ];
  return h(
    "div",
    { class: "plan", id: "plan" },
    h(
      "table",
      { class: "table compact" },
      h("caption", { class: "visually-hidden" }, "What the change does to the majority"),
      h("thead", {}, h("tr", {}, h("td", {}), stages.map(([name]) => h("th", { scope: "col", class: "number" }, name)))),
      h(
        "tbody",
        {},
        rows.map(([name, fieldName]) =>
          h("tr", {}, h("th", { scope: "row" }, name), stages.map(([, view]) => h("td", { class: "number" }, whole(view?.[fieldName])))),
        ),
      ),
    ),
    (plan.warnings ?? []).map((warning) => h("p", { class: "banner warn" }, visible(warning))),
  );
}

/** How a member is doing while it is added, from what the node tells each second. */
function following(name) {
  const line = h("p", { class: "muted", role: "status" });
  const draw = () => {
    const member = (live.status?.members ?? []).find((one) => one.name === name);
    if (member === undefined) setText(line, "It is not a member yet.");
    else if (member.voter) setText(line, "It is a member with a vote.");
    else setText(line, member.lagEntries === undefined ? "It is catching up." : `It is catching up: ${many(member.lagEntries, "entry")} behind.`);
  };
  const unsubscribe = subscribe(draw);
  draw();
  return { line, unsubscribe };
}

/** Does what was planned, in an open dialog: progress, then the outcome. */
async function carryOut({ show, state, close }, { under, act, follow, done }) {
  const progress = follow ? following(follow) : null;
  state.hold = true;
  show(elapsed(under), progress?.line);
  try {
    const answer = await act();
    state.hold = false;
    show(
      h("p", { class: "outcome good", role: "status", id: "outcome" }, done(answer)),
      answer.plan && planTable(answer.plan),
      h("div", { class: "dialog-actions" }, button("Close", close, { kind: "primary", autofocus: true })),
    );
  } catch (refusal) {
    state.hold = false;
    show(problem(refusal), h("div", { class: "dialog-actions" }, button("Close", close)));
  } finally {
    progress?.unsubscribe();
  }
}

function addMember() {
  dialog("Add a member", (box) => {
    const name = h("input", { type: "text", id: "member-name", required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
    const address = h("input", { type: "text", id: "member-address", required: true, autocomplete: "off", spellcheck: "false", placeholder: "host:9173" });
    const trouble = h("div", {});
    const plan = h("button", { type: "submit", class: "button primary", id: "member-plan" }, "Show the plan");
    const first = () =>
      box.show(
        h(
          "form",
          { onsubmit: submit },
          h("p", {}, "The node has to run and wait, with the secret of this cluster and its peers."),
          field("Name", name, "What its operator calls it (--node-id)"),
          field("Address", address, "Where the other nodes reach it on the data plane"),
          trouble,
          h("div", { class: "dialog-actions" }, button("Cancel", box.close), plan),
        ),
      );
    const submit = (event) => {
      event.preventDefault();
      void busy(plan, async () => {
        fill(trouble);
        const wanted = { name: name.value.trim(), address: address.value.trim() };
        try {
          const answer = await post("/v1/cluster/members", { ...wanted, validateOnly: true });
          box.show(
            h("p", {}, h("strong", {}, visible(wanted.name)), ` at ${visible(wanted.address)} becomes a member with a vote when it has caught up.`),
            planTable(answer.plan ?? {}),
            h(
              "div",
              { class: "dialog-actions" },
              button("Back", first),
              button(
                "Add it",
                () =>
                  carryOut(box, {
                    under: `Adding ${visible(wanted.name)}`,
                    act: () => post("/v1/cluster/members", { ...wanted, expectedConfigVersion: answer.plan?.configVersion }),
                    follow: wanted.name,
                    done: () => `${visible(wanted.name)} is a member.`,
                  }),
                { kind: "primary", id: "member-add", autofocus: true },
              ),
            ),
          );
        } catch (refusal) {
          fill(trouble, problem(refusal));
        }
      });
    };
    first();
  });
}

/** A change that is planned at once: `plan` asks, `explain` says it in words, `act` does it. */
function planned({ title, plan, explain, label, danger, under, act, done }) {
  dialog(title, (box) => {
    box.show(loading("Asking for the plan"));
    const ask = async () => {
      try {
        const answer = await plan();
        box.show(
          explain(answer),
          answer.plan && planTable(answer.plan),
          h(
            "div",
            { class: "dialog-actions" },
            button("Cancel", box.close),
            button(label, () => carryOut(box, { under, act: () => act(answer), done }), {
              kind: danger ? "danger" : "primary",
              id: "plan-go",
            }),
          ),
        );
      } catch (refusal) {
        box.show(problem(refusal), h("div", { class: "dialog-actions" }, button("Close", box.close)));
      }
    };
    void ask();
  });
}

function removeMember(member) {
  const name = visible(member.name);
  planned({
    title: `Remove ${name}?`,
    plan: () => remove(query(path`/v1/cluster/members/${member.name}`, { validateOnly: "true" })),
    explain: () =>
      h(
        "p",
        {},
        `${name} loses its vote and serves nobody any more. `,
        member.leader ? "It leads: it hands its office over first. " : "",
        "Its data stays on its disk.",
      ),
    label: `Remove ${name}`,
    danger: true,
    under: `Removing ${name}`,
    act: (answer) => remove(query(path`/v1/cluster/members/${member.name}`, { expectedConfigVersion: answer.plan?.configVersion })),
    done: () => `${name} is no member any more.`,
  });
}

function transfer(member) {
  const to = member?.name ?? "";
  planned({
    title: member ? `Have ${visible(to)} lead?` : "Transfer leadership?",
    plan: () => post("/v1/cluster/leader", { to, validateOnly: true }),
    explain: (answer) => h("p", {}, h("strong", {}, visible(answer.leader || to) || "The voter that is best prepared"), " will be asked to lead. Writes that come meanwhile wait for the change; it takes some ten milliseconds."),
    label: "Transfer",
    under: "Handing the office over",
    act: () => post("/v1/cluster/leader", { to, expectedConfigVersion: live.status?.configVersion }),
    done: (answer) => `${visible(answer.leader || to)} leads now.`,
  });
}

function drain(draining) {
  const act = () => put("/v1/drain", { draining });
  const done = () => toast(draining ? "The node is drained" : "The node takes clients again");
  const name = visible(session.nodeName);
  confirm({
    title: draining ? `Drain ${name}?` : `End the draining of ${name}?`,
    text: draining
      ? h("ul", {}, h("li", {}, "Probes of load balancers are told that it is not ready."), h("li", {}, "If it leads, it hands its office over; it does not stand for election."), h("li", {}, "It serves those that are connected, follows and votes."), h("li", {}, "It ends here, or with a restart."))
      : h("p", {}, "Balancers send it clients again, and it may lead."),
    label: draining ? "Drain" : "End it",
    danger: draining,
    act,
    done,
  });
}

function maintenance(enabled) {
  confirm({
    title: enabled ? "Turn maintenance mode on?" : "Turn maintenance mode off?",
    text: h(
      "p",
      {},
      enabled
        ? "On every node, writes are refused (SRV-033) until it is turned off. Reads, backups and administration of the cluster go on. It outlasts restarts."
        : "Writes are let in again, on every node.",
    ),
    label: enabled ? "Turn on" : "Turn off",
    danger: enabled,
    act: () => put("/v1/maintenance", { enabled }),
    done: () => toast(`Maintenance mode is ${enabled ? "on" : "off"}`),
  });
}

function snapshot() {
  dialog("Snapshot", (box) =>
    box.show(
      h("p", {}, "Writes the state of this node to its disk, beside its work, so that a restart has less of the log to apply."),
      h(
        "div",
        { class: "dialog-actions" },
        button("Cancel", box.close),
        button(
          "Take it",
          () => carryOut(box, { under: "Taking a snapshot", act: () => post("/v1/snapshots"), done: () => "The snapshot is on disk." }),
          { kind: "primary", id: "snapshot-go", autofocus: true },
        ),
      ),
    ),
  );
}

export function cluster(root) {
  const body = h("div", { class: "stack" });
  const add = button("Add a member", addMember, { kind: "primary", id: "member-new" });
  fill(root, pageHead("Cluster", add), body);
  const members = table({
    caption: "Members of the cluster",
    key: (member) => member.nodeId,
    columns: [
      ...memberColumns,
      {
        title: "Actions",
        kind: "actions",
        // A node that is alone has nobody to leave.
        cell: (member) => live.status.clustered && [
          member.voter && !member.leader && button("Have it lead", () => transfer(member), { kind: "quiet", "aria-label": `Have ${visible(member.name)} lead` }),
          button("Remove", () => removeMember(member), { kind: "danger-quiet", "aria-label": `Remove ${visible(member.name)}` }),
        ],
        text: (member) => `${live.status.clustered} ${member.nodeId} ${member.name} ${member.voter} ${member.leader}`,
      },
    ],
  });
  const node = h("div", {});
  const whole_ = h("div", {});
  const content = [card("Members", members.node), h("div", { class: "columns" }, card("The cluster", whole_), card("This node", node))];
  let showing = "";
  let drawn = "";
  function show(what, ...nodes) {
    if (showing === what) return;
    showing = what;
    fill(body, nodes);
  }
  function draw() {
    add.hidden = live.state === "forbidden" || live.status === null || !live.status.clustered;
    if (live.state === "forbidden") return show("forbidden", forbidden(live.refusal, "admin on *", "the cluster"));
    const { status } = live;
    if (status === null) {
      return live.state === "away" ? show("away", empty("The node does not answer", "The page tries again by itself.")) : show("loading", loading("Waiting for the node"));
    }
    show("content", content);
    members.set(memberRows(status));
    const signature = JSON.stringify([status.maintenanceMode, status.draining, status.leader, status.role, status.clustered, status.failureTolerance, status.snapshot?.takenAtMs, status.configVersion, Math.floor(Date.now() / 10_000)]);
    if (signature === drawn) return;
    // Not under the pointer or the focus of somebody who is about to press.
    if (drawn !== "" && (node.contains(document.activeElement) || whole_.contains(document.activeElement)) && JSON.parse(drawn).slice(0, -1).join() === JSON.parse(signature).slice(0, -1).join()) return;
    drawn = signature;
    fill(
      whole_,
      facts([
        ["Leader", status.leader ? visible(status.leader.name) : badge("none", "bad")],
        ["May be lost", `${whole(status.failureTolerance)} of ${many(status.voterCount, "voter")}`],
        ["Membership", `version ${whole(status.configVersion)}`],
        ["Maintenance mode", status.maintenanceMode ? badge("on", "warn") : "off"],
      ]),
      h(
        "div",
        { class: "actions left" },
        status.clustered && button("Transfer leadership", () => transfer(null), { id: "transfer" }),
        button(status.maintenanceMode ? "Turn maintenance mode off" : "Turn maintenance mode on", () => maintenance(!status.maintenanceMode), { id: "maintenance" }),
      ),
    );
    fill(
      node,
      facts([
        ["Name", visible(session.nodeName)],
        ["Clients", status.draining ? badge("left to others", "warn") : status.ready ? "served" : badge("not served", "bad")],
        ["Snapshot", relative(status.snapshot?.takenAtMs)],
      ]),
      h(
        "div",
        { class: "actions left" },
        button(status.draining ? "End the draining" : "Drain", () => drain(!status.draining), { id: "drain" }),
        button("Take a snapshot", snapshot, { id: "snapshot" }),
      ),
    );
  }
  const unsubscribe = subscribe(draw);
  draw();
  return unsubscribe;
}

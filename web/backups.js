// Logical backups in the backup directory of this node.

import { get, path, post, query, remove, upload } from "./api.js";
import { fill, h, setText } from "./dom.js";
import { bytes, many, moment, relative, visible, whole } from "./format.js";
import { button, card, confirm, dialog, elapsed, empty, facts, field, formDialog, pagedList, pageHead, problem, table, toast } from "./parts.js";

/** What a backup holds. */
function summary(backup) {
  return facts([
    ["Taken", moment(backup.createdAtMs)],
    ["Entries", `${whole(backup.entryCount)}, of which ${whole(backup.liveCount)} would be restored now`],
    ["Size", bytes(backup.sizeBytes)],
    ["Format", `version ${whole(backup.version)}`],
    ["SHA-256", h("span", { class: "mono break" }, backup.sha256 ?? "")],
  ]);
}

/** Does something that takes a while, in a dialog. */
function atWork(title, under, act, outcome) {
  dialog(title, ({ show, close, state }) => {
    state.hold = true;
    show(elapsed(under));
    const run = async () => {
      try {
        const answer = await act();
        show(outcome(answer), h("div", { class: "dialog-actions" }, button("Close", close, { kind: "primary", autofocus: true })));
      } catch (refusal) {
        show(problem(refusal), h("div", { class: "dialog-actions" }, button("Close", close)));
      } finally {
        state.hold = false;
      }
    };
    void run();
  });
}

export function backups(root) {
  const list = table({
    caption: "Backups",
    key: (row) => row.name,
    columns: [
      { title: "Name", kind: "mono", cell: (row) => visible(row.name) },
      { title: "Size", kind: "number", cell: (row) => bytes(row.sizeBytes) },
      {
        title: "Written",
        cell: (row) => h("time", { title: moment(row.modifiedAtMs) }, relative(row.modifiedAtMs)),
        text: (row) => relative(row.modifiedAtMs),
      },
      { title: "Manifest", cell: (row) => (row.hasManifest ? "yes" : "no: cannot be verified") },
      {
        title: "Actions",
        kind: "actions",
        cell: (row) => [
          h("a", { class: "button quiet", href: path`/v1/backups/${row.name}/content`, download: row.name.split("/").at(-1), "aria-label": `Download ${visible(row.name)}` }, "Download"),
          button("Verify", () => verify(row), { kind: "quiet", disabled: !row.hasManifest, "aria-label": `Verify ${visible(row.name)}` }),
          button("Restore", () => restore(row), { kind: "danger-quiet", "aria-label": `Restore ${visible(row.name)}` }),
          button("Delete", () => drop(row), { kind: "danger-quiet", "aria-label": `Delete ${visible(row.name)}` }),
        ],
        text: (row) => `${row.name} ${row.hasManifest}`,
      },
    ],
  });
  const shown = pagedList({
    what: "backups",
    permission: "backup on *",
    list,
    fetchPage: async (token) => {
      const page = await get(query("/v1/backups", { pageSize: 100, pageToken: token }));
      return { rows: page.backups ?? [], nextToken: page.nextToken };
    },
    emptyNode: () => empty("No backups in this node's directory", "Create one, or upload one from elsewhere."),
  });

  fill(
    root,
    pageHead(
      "Backups",
      button("Create a backup", create, { kind: "primary", id: "backup-new" }),
      button("Upload", send, { id: "backup-upload" }),
      button("Refresh", () => shown.reload(), { id: "backups-refresh" }),
    ),
    h("p", { class: "lead" }, "Files of keys and values in the directory of this node. They are not encrypted; keep copies elsewhere, and where only the right people read them."),
    card("On this node", shown.node),
  );

  function create() {
    const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "").replace("T", "-");
    formDialog({
      title: "Create a backup",
      intro: "All keys of this node, as they are at one moment. What has the name already is replaced when the new one is complete.",
      label: "Create",
      inputs: [{ name: "name", label: "Name", control: h("input", { type: "text", id: "backup-name", value: `${stamp}.json`, required: true, autocomplete: "off", spellcheck: "false", autofocus: true }) }],
      act: ({ name }) => post("/v1/backups", { name }),
      done: (answer, { name }) => {
        toast(`${name}: ${many(answer.backup?.entryCount, "entry")}`);
        void shown.reload();
      },
    });
  }

  function verify(row) {
    atWork(
      `Verify ${visible(row.name)}`,
      "Reading the backup to its end",
      () => post(path`/v1/backups/${row.name}/verify`),
      (answer) => [h("p", { class: "outcome good", id: "outcome", role: "status" }, "It is whole and matches its manifest."), summary(answer.backup ?? {})],
    );
  }

  function drop(row) {
    confirm({
      title: "Delete this backup?",
      text: h("p", {}, h("span", { class: "mono" }, visible(row.name)), " and its manifest go from the directory of this node."),
      label: "Delete",
      act: () => remove(path`/v1/backups/${row.name}`),
      done: () => {
        toast("Deleted");
        void shown.reload();
      },
    });
  }

  /** First a look at what would be restored; then, with the name typed, the restore itself. */
  function restore(row) {
    const looking = dialog(`Restore ${visible(row.name)}`, ({ show, close, state }) => {
      state.hold = true;
      show(elapsed("Checking what would be restored"));
      const look = async () => {
        try {
          const answer = await post(path`/v1/backups/${row.name}/restore`, { validateOnly: true });
          state.hold = false;
          looking.close();
          ask(row, answer);
        } catch (refusal) {
          state.hold = false;
          show(problem(refusal), h("div", { class: "dialog-actions" }, button("Close", close)));
        }
      };
      void look();
    });
  }

  function ask(row, plan) {
    confirm({
      title: `Restore ${visible(row.name)}`,
      text: [
        h("p", { class: "banner bad" }, "All keys of the cluster are replaced, in one step. What was written since the backup was taken is lost."),
        facts([
          ["Entries to be restored", h("span", { id: "restore-count" }, whole(plan.entryCount))],
          ["Written", moment(row.modifiedAtMs)],
        ]),
      ],
      label: "Replace all keys",
      typed: row.name,
      act: () => post(path`/v1/backups/${row.name}/restore`),
      done: (answer) => toast(`Restored: ${many(answer.entryCount, "entry")}`),
    });
  }

  function send() {
    dialog("Upload a backup", ({ show, close, state }) => {
      const file = h("input", { type: "file", id: "upload-file", required: true });
      const name = h("input", { type: "text", id: "upload-name", required: true, autocomplete: "off", spellcheck: "false" });
      file.addEventListener("change", () => (name.value = name.value || (file.files[0]?.name ?? "")));
      const trouble = h("div", {});
      const go = h("button", { type: "submit", class: "button primary", id: "upload-go" }, "Upload");
      const submit = async (event) => {
        event.preventDefault();
        const bar = h("progress", { max: "1", value: 0, "aria-label": "Upload" });
        const told = h("p", { class: "muted", role: "status" }, "Sending");
        const controller = new AbortController();
        state.hold = true;
        state.closed = () => controller.abort();
        const form = file.form;
        show(bar, told, h("div", { class: "dialog-actions" }, button("Give up", () => controller.abort())));
        try {
          const progress = (part) => {
            bar.value = part;
            setText(told, part < 1 ? `Sending: ${Math.floor(part * 100)} %` : "Checking what has arrived");
          };
          const answer = await upload(path`/v1/backups/${name.value}/content`, file.files[0], progress, controller.signal);
          show(
            h("p", { class: "outcome good", id: "outcome", role: "status" }, "It has arrived whole."),
            summary(answer.backup ?? {}),
            h("div", { class: "dialog-actions" }, button("Close", close, { kind: "primary" })),
          );
          void shown.reload();
        } catch (refusal) {
          show(form);
          fill(trouble, refusal.name === "AbortError" ? h("p", { class: "muted" }, "Given up; nothing was kept.") : problem(refusal));
        } finally {
          state.hold = false;
        }
      };
      show(
        h(
          "form",
          { onsubmit: submit },
          h("p", {}, "It gets its name when all of it has arrived and been checked. To restore it, upload it to the node that leads."),
          field("File", file),
          field("Name on the node", name),
          trouble,
          h("div", { class: "dialog-actions" }, button("Cancel", close), go),
        ),
      );
    });
  }

  void shown.reload();
  return { recovered: () => shown.reload() };
}

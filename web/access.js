// Users, roles, sessions, and what a user may do.

import { get, path, post, put, query, remove } from "./api.js";
import { fill, h } from "./dom.js";
import { moment, relative, visible } from "./format.js";
import { badge, busy, button, card, confirm, empty, failed, field, formDialog, loading, pagedList, pageHead, table, toast } from "./parts.js";
import { session } from "./session.js";

const PERMISSIONS = ["read", "write", "clear", "backup", "restore", "snapshot", "metrics", "user_admin", "role_admin", "admin"];

const TABS = [
  ["users", "Users"],
  ["roles", "Roles"],
  ["sessions", "Sessions"],
  ["rights", "What may a user do?"],
];

/** Something granted, with a way to take it back. */
function chip(text, label, onclick) {
  return h("span", { class: "chip" }, text, h("button", { type: "button", class: "chip-x", "aria-label": label, onclick }, "✕"));
}

const textInput = (attributes = {}) => h("input", { type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "none", required: true, ...attributes });
const passwordInput = (attributes = {}) => h("input", { type: "password", autocomplete: "new-password", required: true, ...attributes });
const options = (names) => h("select", { required: true, autofocus: true }, names.map((name) => h("option", { value: name }, visible(name))));

/** Everything of a list, for choices; at most a thousand. */
async function names(url, list) {
  const page = await get(query(url, { pageSize: 1000 }));
  return (page[list] ?? []).map((one) => one.name);
}

const page = (url, list) => async (token) => {
  const answer = await get(query(url, { pageSize: 100, pageToken: token }));
  return { rows: answer[list] ?? [], nextToken: answer.nextToken };
};

export function access(root, parameters) {
  const nav = h("nav", { class: "tabs", "aria-label": "Access" });
  const body = h("div", {});
  const actions = h("div", { class: "actions" });
  fill(root, h("div", { class: "page-head" }, h("h1", { id: "page-title", tabindex: "-1" }, "Access"), actions), nav, body);
  let shown = null;
  let reload = () => {};
  function update(wanted) {
    const tab = TABS.some(([name]) => name === wanted.get("tab")) ? wanted.get("tab") : "users";
    fill(nav, TABS.map(([name, title]) => h("a", { href: `#/access?tab=${name}`, "aria-current": name === tab ? "page" : undefined, id: `tab-${name}` }, title)));
    if (shown !== tab || tab === "rights") {
      shown = tab;
      fill(actions);
      fill(body);
      reload = { users, roles, sessions, rights }[tab](body, actions, wanted) ?? (() => {});
    }
  }
  update(parameters);
  return { update, recovered: () => reload() };
}

// ---- Users -----------------------------------------------------------------------------------------------------

function users(body, actions) {
  const list = table({
    caption: "Users",
    key: (user) => user.name,
    columns: [
      {
        title: "User",
        cell: (user) => [h("strong", { class: "break" }, visible(user.name)), user.name === session.user && h("span", { class: "muted" }, " you")],
        text: (user) => user.name,
      },
      { title: "Login", cell: (user) => (user.enabled ? "allowed" : badge("disabled", "warn")), text: (user) => String(user.enabled) },
      {
        title: "Roles",
        cell: (user) => [
          (user.roles ?? []).map((role) => chip(visible(role), `Take the role ${visible(role)} from ${visible(user.name)}`, () => revoke(user, role))),
          (user.roles ?? []).length === 0 && h("span", { class: "muted" }, "none"),
        ],
        text: (user) => JSON.stringify(user.roles ?? []),
      },
      {
        title: "Actions",
        kind: "actions",
        cell: (user) => [
          h("a", { class: "button quiet", href: query("#/access", { tab: "rights", user: user.name }), "aria-label": `What may ${visible(user.name)} do?` }, "Rights"),
          button("Grant a role", () => grant(user), { kind: "quiet", "aria-label": `Grant a role to ${visible(user.name)}` }),
          button("Password", () => password(user), { kind: "quiet", "aria-label": `Password of ${visible(user.name)}` }),
          button("Drop", () => drop(user), { kind: "danger-quiet", "aria-label": `Drop ${visible(user.name)}` }),
        ],
        text: (user) => user.name,
      },
    ],
  });
  const shown = pagedList({ what: "users", permission: "user_admin on *", list, fetchPage: page("/v1/users", "users"), emptyNode: () => empty("No users") });
  fill(actions, button("New user", create, { kind: "primary", id: "user-new" }));
  fill(body, card("Users", shown.node));
  const after = (text) => () => {
    toast(text);
    void shown.reload();
  };

  function create() {
    formDialog({
      title: "New user",
      label: "Create",
      inputs: [
        { name: "name", label: "Name", control: textInput({ id: "user-name", autofocus: true }) },
        { name: "password", label: "Password", control: passwordInput({ id: "user-password" }), hint: "At least 12 characters with a letter and a digit" },
      ],
      act: ({ name, password: secret }) => post("/v1/users", { name, password: secret }),
      done: after("The user is there. It may do nothing until it gets a role."),
    });
  }

  function password(user) {
    formDialog({
      title: `Password of ${visible(user.name)}`,
      intro: "Open connections stay; end the sessions to have them log in anew. Tokens end.",
      label: "Set the password",
      inputs: [{ name: "password", label: "New password", control: passwordInput({ autofocus: true }), hint: "At least 12 characters with a letter and a digit" }],
      act: ({ password: secret }) => put(path`/v1/users/${user.name}/password`, { password: secret }),
      done: after("The password is set"),
    });
  }

  async function grant(user) {
    let roles = [];
    try {
      roles = await names("/v1/roles", "roles");
    } catch (_refusal) {
      // Without the right to see roles, their names are typed.
    }
    const free = roles.filter((role) => !(user.roles ?? []).includes(role));
    formDialog({
      title: `Grant a role to ${visible(user.name)}`,
      label: "Grant",
      inputs: [{ name: "role", label: "Role", control: free.length > 0 ? options(free) : textInput({ autofocus: true }) }],
      act: ({ role }) => put(path`/v1/users/${user.name}/roles/${role}`),
      done: after("Granted"),
    });
  }

  function revoke(user, role) {
    confirm({
      title: "Take the role away?",
      text: h("p", {}, h("strong", {}, visible(user.name)), " loses ", h("strong", {}, visible(role)), ", on open connections too."),
      label: "Take it away",
      act: () => remove(path`/v1/users/${user.name}/roles/${role}`),
      done: after("Taken away"),
    });
  }

  function drop(user) {
    confirm({
      title: "Drop this user?",
      text: h("p", {}, h("strong", { class: "break" }, visible(user.name)), " cannot log in any more, and its sessions end."),
      label: "Drop",
      act: () => remove(path`/v1/users/${user.name}`),
      done: after("Dropped"),
    });
  }

  void shown.reload();
  return shown.reload;
}

// ---- Roles -----------------------------------------------------------------------------------------------------

const grantText = (grant) => [grant.permission, h("span", { class: "muted" }, " on "), h("span", { class: "mono" }, visible(grant.pattern))];

function roles(body, actions) {
  const list = table({
    caption: "Roles",
    key: (role) => role.name,
    columns: [
      { title: "Role", cell: (role) => h("strong", { class: "break" }, visible(role.name)), text: (role) => role.name },
      {
        title: "Grants",
        cell: (role) => [
          (role.grants ?? []).map((grant) => chip(grantText(grant), `Revoke ${grant.permission} on ${visible(grant.pattern)} from ${visible(role.name)}`, () => revoke(role, grant))),
          (role.grants ?? []).length === 0 && h("span", { class: "muted" }, "none"),
        ],
        text: (role) => JSON.stringify(role.grants ?? []),
      },
      {
        title: "Actions",
        kind: "actions",
        cell: (role) => [
          button("Grant a permission", () => grant(role), { kind: "quiet", "aria-label": `Grant a permission to ${visible(role.name)}` }),
          button("Drop", () => drop(role), { kind: "danger-quiet", "aria-label": `Drop ${visible(role.name)}` }),
        ],
        text: (role) => role.name,
      },
    ],
  });
  const shown = pagedList({ what: "roles", permission: "role_admin on *", list, fetchPage: page("/v1/roles", "roles"), emptyNode: () => empty("No roles") });
  fill(actions, button("New role", create, { kind: "primary", id: "role-new" }));
  fill(body, card("Roles", shown.node));
  const after = (text) => () => {
    toast(text);
    void shown.reload();
  };

  function create() {
    formDialog({
      title: "New role",
      label: "Create",
      inputs: [{ name: "name", label: "Name", control: textInput({ autofocus: true }) }],
      act: ({ name }) => post("/v1/roles", { name }),
      done: after("The role is there"),
    });
  }

  function grant(role) {
    formDialog({
      title: `Grant a permission to ${visible(role.name)}`,
      label: "Grant",
      inputs: [
        { name: "permission", label: "Permission", control: options(PERMISSIONS) },
        { name: "pattern", label: "Keys", control: textInput({ value: "*" }), hint: "* is any run of characters, ? is one; * alone is every key. Only read and write are of use on less than *" },
      ],
      act: ({ permission, pattern }) => post(path`/v1/roles/${role.name}/grants`, { grant: { permission, pattern } }),
      done: after("Granted"),
    });
  }

  function revoke(role, granted) {
    confirm({
      title: "Revoke the permission?",
      text: h("p", {}, "Whoever holds ", h("strong", {}, visible(role.name)), " loses ", grantText(granted), ", unless another role has it."),
      label: "Revoke",
      act: () => post(path`/v1/roles/${role.name}/grants/revoke`, { grant: granted }),
      done: after("Revoked"),
    });
  }

  function drop(role) {
    confirm({
      title: "Drop this role?",
      text: h("p", {}, "Whoever holds ", h("strong", {}, visible(role.name)), " loses what it grants."),
      label: "Drop",
      act: () => remove(path`/v1/roles/${role.name}`),
      done: after("Dropped"),
    });
  }

  void shown.reload();
  return shown.reload;
}

// ---- Sessions --------------------------------------------------------------------------------------------------

function sessions(body, actions) {
  const list = table({
    caption: "Sessions",
    key: (one) => one.id,
    columns: [
      { title: "User", cell: (one) => (one.user ? visible(one.user) : h("span", { class: "muted" }, "not logged in")), text: (one) => one.user ?? "" },
      { title: "Kind", cell: (one) => (one.peer ? "connection" : "token") },
      { title: "From", kind: "mono", cell: (one) => visible(one.peer ?? "–") },
      { title: "Since", cell: (one) => h("time", { title: moment(one.sinceMs) }, relative(one.sinceMs)), text: (one) => relative(one.sinceMs) },
      { title: "Ends", cell: (one) => (Number(one.endsAtMs ?? 0) === 0 ? "–" : relative(one.endsAtMs)) },
      {
        title: "Actions",
        kind: "actions",
        cell: (one) => [
          button("End", () => end({ id: one.id }, `the session of ${visible(one.user || "nobody")}`), { kind: "danger-quiet", "aria-label": `End the session ${one.id}` }),
          one.user && button("End all of the user", () => end({ user: one.user }, `all sessions of ${visible(one.user)}`), { kind: "quiet" }),
        ],
        text: (one) => `${one.id} ${one.user}`,
      },
    ],
  });
  const shown = pagedList({ what: "sessions", permission: "user_admin on *", list, fetchPage: page("/v1/sessions", "sessions"), emptyNode: () => empty("Nobody is connected to this node") });
  fill(actions, button("Refresh", () => shown.reload()));
  fill(body, h("p", { class: "lead" }, "Connections of the data plane and tokens of this node. Whoever knows the password can log in again: change that first."), card("Sessions", shown.node));

  function end(which, what) {
    confirm({
      title: "End it?",
      text: h("p", {}, `Ends ${what}, on this node.`),
      label: "End",
      act: () => post("/v1/sessions/end", which),
      done: (answer) => {
        toast(`${answer.endedCount ?? 0} ended`);
        void shown.reload();
      },
    });
  }

  void shown.reload();
  return shown.reload;
}

// ---- Rights ----------------------------------------------------------------------------------------------------

function rights(body, _actions, wanted) {
  const user = textInput({ id: "rights-user", value: wanted.get("user") ?? session.user ?? "", list: "rights-users" });
  const permission = h("select", { id: "rights-permission" }, PERMISSIONS.map((name) => h("option", { value: name }, name)));
  const key = textInput({ id: "rights-key", required: false, placeholder: "app:flag" });
  const known = h("datalist", { id: "rights-users" });
  const ask = h("button", { type: "submit", class: "button primary", id: "rights-ask" }, "Show");
  const answer = h("div", { class: "stack" });
  const form = h("form", { class: "toolbar", onsubmit: submit }, field("User", user), field("Permission", permission), field("Key", key, "Empty: only what is held"), ask, known);
  fill(body, card("What may a user do?", form, answer));
  let turn = 0;

  function submit(event) {
    event.preventDefault();
    void busy(ask, show);
  }

  async function show() {
    const [name, asked, on] = [user.value, permission.value, key.value];
    turn += 1;
    const own = turn;
    fill(answer, loading("Asking"));
    try {
      const found = await get(query(path`/v1/users/${name}/rights`, on === "" ? {} : { permission: asked, key: on }));
      if (own !== turn) return;
      const held = found.rights ?? [];
      const list = table({
        caption: `Rights of ${visible(name)}`,
        key: (right) => `${right.permission} ${right.pattern}`,
        columns: [
          { title: "Permission", cell: (right) => h("strong", {}, right.permission), text: (right) => right.permission },
          { title: "On keys", kind: "mono", cell: (right) => visible(right.pattern) },
          { title: "By the role", cell: (right) => (right.roles ?? []).map(visible).join(", ") },
        ],
      });
      list.set(held);
      fill(
        answer,
        on !== "" &&
          h(
            "p",
            { class: `outcome ${found.allowed ? "good" : "bad"}`, id: "rights-verdict", role: "status" },
            `${visible(name)} ${found.allowed ? "may" : "may not"} ${asked} `,
            h("span", { class: "mono" }, visible(on)),
          ),
        held.length > 0 ? list.node : empty(`${visible(name)} may do nothing`, "Grant it a role."),
        held.some((right) => right.permission === "admin" && right.pattern === "*") && h("p", { class: "hint" }, "admin on * is everything, on every key."),
      );
    } catch (refusal) {
      if (own === turn) fill(answer, failed(refusal, "user_admin on *", "what others may do", show));
    }
  }

  names("/v1/users", "users")
    .then((found) => fill(known, found.map((name) => h("option", { value: name }))))
    .catch(() => {
      // Only the suggestions are missing.
    });
  if (user.value !== "") void show();
  return show;
}

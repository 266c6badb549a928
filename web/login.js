// Logging in.

import { fill, h } from "./dom.js";
import { busy, field, problem } from "./parts.js";
import { login, session } from "./session.js";

export function loginPage(root) {
  const user = h("input", {
    type: "text",
    name: "user",
    id: "login-user",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
  });
  const password = h("input", {
    type: "password",
    name: "password",
    id: "login-password",
    autocomplete: "current-password",
    required: true,
  });
  const enter = h("button", { type: "submit", class: "button primary wide", id: "login-submit" }, "Log in");
  const trouble = h("div", {});
  const image = h("img", { alt: "", width: "36", height: "36" });
  image.src = "/console/icon.svg";
  const submit = (event) => {
    event.preventDefault();
    void busy(enter, async () => {
      fill(trouble);
      try {
        await login(user.value, password.value);
      } catch (refusal) {
        fill(trouble, problem(refusal));
        password.select();
      }
    });
  };
  const insecure = location.protocol === "http:" && !["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
  fill(
    root,
    h(
      "main",
      { class: "login" },
      h(
        "form",
        { class: "card login-card", onsubmit: submit },
        h("div", { class: "login-brand" }, image, h("h1", {}, "Vaylix")),
        h("p", { class: "muted" }, `Console of the node at ${location.host}`),
        session.ended &&
          h("p", { class: "banner note", role: "status" }, h("span", { class: "code" }, session.ended.code), " The session is over. Log in again, and the page goes on where it was."),
        insecure && h("p", { class: "banner warn" }, "Without TLS, the password crosses the network readable."),
        field("User", user),
        field("Password", password),
        trouble,
        enter,
      ),
    ),
  );
  user.focus();
}

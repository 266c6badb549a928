// Requests to the node that serves this page.

import { advice } from "./advice.js";

/** A request that was refused, or whose answer never came. */
export class Refusal extends Error {
  constructor({ status, code, title, detail, retry, field, leaderAdminAddress }) {
    super(detail || title);
    /** Of HTTP; 0 when there was no answer. */
    this.status = status;
    /** The stable code, see docs/error-codes.md. */
    this.code = code;
    this.title = title;
    this.detail = detail;
    /** `never`, `backoff`, `at_leader` or `outcome_unknown`. */
    this.retry = retry;
    this.field = field;
    this.leaderAdminAddress = leaderAdminAddress;
  }

  /** What to do about it. */
  get advice() {
    return advice(this);
  }

  get signedOut() {
    return this.status === 401;
  }

  get forbidden() {
    return this.status === 403 || this.code === "SRV-017";
  }

  get unreachable() {
    return this.status === 0;
  }

  get atLeader() {
    return this.code === "SRV-037" || this.retry === "at_leader";
  }
}

/** What proves that a change comes from this page; the session sets it. */
let csrfToken = "";
/** Asks for it again; the session sets it. */
let refreshCsrf = null;
const listeners = new Set();

export function setCsrfToken(token) {
  csrfToken = token ?? "";
}

export function onCsrfRefresh(refresh) {
  refreshCsrf = refresh;
}

/** Tells `listener` of each refusal that says that nobody is logged in. */
export function onSignedOut(listener) {
  listeners.add(listener);
}

/** How long an answer to a read may take, in milliseconds. Changes have as long as the node gives them. */
const READ_TIMEOUT_MS = 15_000;

/** A path with its parts encoded: path`/v1/keys/${key}`. */
export function path(texts, ...parts) {
  return texts.reduce((whole, text, at) => {
    const part = String(parts[at - 1]);
    if (part === "" || part === "." || part === "..") {
      throw new Refusal({
        status: 400,
        code: "SRV-030",
        title: "Invalid Arguments",
        detail: `browsers cannot send the name "${part}" as a part of a path; use vaylix-client or vaylixctl`,
        retry: "never",
      });
    }
    return whole + encodeURIComponent(part) + text;
  });
}

/** A path with parameters; those without a value are left out. */
export function query(url, parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return text === "" ? url : `${url}?${text}`;
}

/** What the answer says went wrong. */
export async function refusalOf(response) {
  if (response.type === "opaqueredirect") {
    return new Refusal({
      status: 307,
      code: "SRV-037",
      title: "Follower Write Rejected",
      detail: "this node does not lead, and the request needs the leader",
      retry: "at_leader",
    });
  }
  let problem = {};
  try {
    problem = await response.json();
  } catch (_notJson) {
    // Something between the browser and the node answered; the status is all there is.
  }
  return new Refusal({
    status: response.status,
    code: problem.code ?? `HTTP ${response.status}`,
    title: problem.title ?? "Refused",
    detail: problem.detail ?? "",
    retry: problem.retry ?? "never",
    field: problem.field,
    leaderAdminAddress: problem.leaderAdminAddress,
  });
}

/** The refusal for an answer that never came. */
export function noAnswer(error) {
  return new Refusal({
    status: 0,
    code: "TRN-013",
    title: "Transport I/O Failure",
    detail: error.name === "TimeoutError" ? "the node did not answer in time" : "the node cannot be reached",
    retry: "outcome_unknown",
  });
}

/** The headers of a request. */
export function headersFor(more = {}) {
  // Empty or not, the header also keeps the browser from asking for a password in a window of its own.
  return { accept: "application/json", "x-csrf-token": csrfToken, ...more };
}

async function send(method, url, { body, signal } = {}) {
  const reads = method === "GET";
  const timeout = reads ? AbortSignal.timeout(READ_TIMEOUT_MS) : undefined;
  const signals = [signal, timeout].filter(Boolean);
  const headers = headersFor(body === undefined ? {} : { "content-type": "application/json" });
  try {
    return await fetch(url, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signals.length > 0 ? AbortSignal.any(signals) : undefined,
      // A redirect leads to another node, where this session is not known.
      redirect: "manual",
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw noAnswer(error);
  }
}

/**
 * Sends a request and returns the message of its answer.
 *
 * Throws a `Refusal`; what `signal` ended throws an `AbortError`.
 */
export async function call(method, url, options = {}) {
  let response = await send(method, url, options);
  // Another tab has renewed the session: the proof belongs to the session, so this tab learns the new one. Nothing happened.
  if (response.status === 403 && method !== "GET" && csrfToken !== "" && refreshCsrf !== null) {
    const before = csrfToken;
    await refreshCsrf();
    if (csrfToken !== before) response = await send(method, url, options);
  }
  if (!response.ok) {
    const refusal = await refusalOf(response);
    if (refusal.signedOut && !options.quiet) for (const listener of listeners) listener(refusal);
    throw refusal;
  }
  try {
    return await response.json();
  } catch (error) {
    throw noAnswer(error);
  }
}

export const get = (url, options) => call("GET", url, options);
export const post = (url, body = {}, options = {}) => call("POST", url, { ...options, body });
export const put = (url, body = {}, options = {}) => call("PUT", url, { ...options, body });
export const remove = (url, options) => call("DELETE", url, options);

/** Sends a file; `progress` hears of the part that is under way, from 0 to 1. Only this kind of request tells that. */
export function upload(url, file, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headersFor())) request.setRequestHeader(name, value);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(noAnswer(new Error("upload")));
    request.onabort = () => reject(new DOMException("the upload was given up", "AbortError"));
    request.onload = async () => {
      const response = new Response(request.response, { status: request.status });
      if (response.ok) resolve(await response.json());
      else reject(await refusalOf(response));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

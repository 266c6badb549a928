// Server-Sent Events over `fetch`: unlike EventSource it tells why a stream is refused, and how long it has been silent.

import { headersFor, noAnswer, refusalOf } from "./api.js";

/** A stream that says nothing for this long is given up; the node sends a comment each 15 s. */
const SILENCE_MS_MAX = 20_000;

/** How much of one event is taken: a history of ten minutes is some 200 kB. */
const EVENT_LENGTH_MAX = 4_000_000;

/**
 * Reads a stream until it ends: `event` hears the name and the data of each event, `opened` that it has begun.
 *
 * Throws a `Refusal` when it is refused or breaks, an `AbortError` when `signal` ended it.
 */
export async function listen(url, { opened, event, signal }) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS_MAX);
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS_MAX);
  };
  try {
    const response = await fetch(url, {
      headers: headersFor({ accept: "text/event-stream" }),
      signal: AbortSignal.any([signal, silence.signal]),
      redirect: "manual",
      credentials: "same-origin",
      cache: "no-store",
    });
    if (!response.ok) throw await refusalOf(response);
    opened?.();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      rest += value;
      if (rest.length > EVENT_LENGTH_MAX) throw new Error("an event is too long");
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) dispatch(block, event);
    }
  } catch (error) {
    if (signal.aborted || error.code !== undefined && error.status !== undefined) throw error;
    throw noAnswer(silence.signal.aborted ? new DOMException("silence", "TimeoutError") : error);
  } finally {
    clearTimeout(timer);
  }
}

function dispatch(block, event) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (data.length > 0) event(name, JSON.parse(data.join("\n")));
}

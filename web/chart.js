// A small chart of the last minutes: lines over time, with a readout that follows pointer and arrow keys.

import { h, setText, svg, uniqueId } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT = 132;
const TOP = 8;
const BOTTOM = 18;
/** Room for the scale on the left. */
const LEFT = 52;
const RIGHT = 6;
const WINDOW_MS_MIN = 60_000;
const WINDOW_MS_MAX = 600_000;
/** Points further apart than this are not joined: nobody looked in between. */
const GAP_MS = 5000;

/** The next number of the form 1, 2, 2.5 or 5 times a power of ten; of two, for bytes. */
function nice(value, binary) {
  if (!(value > 0)) return 1;
  if (binary) {
    const unit = 1024 ** Math.max(0, Math.floor(Math.log(value) / Math.log(1024)));
    return nice(value / unit, false) * unit;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999) ?? 10 * power;
}

/**
 * Makes a chart. Each of `series` has a `name` and `of(figures, before)`, a number or null; `format` writes numbers.
 *
 * `set(figures)` draws points `{atMs, …}`, oldest first.
 */
export function chart({ title, series, format, binary = false, ceiling }) {
  const id = uniqueId("chart");
  const paths = series.map((_, at) => svg("path", { class: `line line-${at + 1}`, fill: "none" }));
  const area = svg("path", { class: "area" });
  const grid = [0, 0.5, 1].map(() => svg("line", { class: "grid" }));
  const scale = [0, 0.5, 1].map(() => svg("text", { class: "tick", "text-anchor": "end" }));
  const from = svg("text", { class: "tick", "text-anchor": "start" });
  const until = svg("text", { class: "tick", "text-anchor": "end" }, "now");
  const cursor = svg("line", { class: "cursor", visibility: "hidden" });
  const dots = series.map((_, at) => svg("circle", { class: `dot dot-${at + 1}`, r: 3, visibility: "hidden" }));
  const picture = svg(
    "svg",
    { class: "plot", height: HEIGHT, tabindex: "0", role: "img", "aria-labelledby": `${id}-title ${id}-text` },
    grid,
    area,
    paths,
    cursor,
    dots,
    scale,
    from,
    until,
  );
  const values = series.map(() => h("span", { class: "legend-value" }, "–"));
  const when = h("span", { class: "chart-when muted" });
  const summary = h("p", { class: "visually-hidden", id: `${id}-text` });
  const node = h(
    "section",
    { class: "card chart", "aria-labelledby": `${id}-title` },
    h("div", { class: "chart-head" }, h("h3", { id: `${id}-title` }, title), when),
    h(
      "p",
      { class: "legend" },
      series.map((one, at) =>
        h("span", { class: "legend-item" }, h("i", { class: `key key-${at + 1}`, "aria-hidden": "true" }), one.name, " ", values[at]),
      ),
    ),
    picture,
    summary,
  );

  let width = 0;
  let points = [];
  let picked = null;
  let x = () => 0;
  let y = () => 0;

  function draw() {
    if (width === 0) return;
    const last = points.at(-1)?.at ?? Date.now();
    const window = Math.min(WINDOW_MS_MAX, Math.max(WINDOW_MS_MIN, last - (points[0]?.at ?? last)));
    const shown = points.filter((point) => point.at >= last - window);
    const most = Math.max(0, ...shown.flatMap((point) => point.values).filter((value) => value !== null));
    const top = Math.max(nice(most, binary), ceiling ?? 0);
    x = (at) => LEFT + ((at - (last - window)) / window) * (width - LEFT - RIGHT);
    y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    paths.forEach((path, at) => path.setAttribute("d", line(shown, at)));
    area.setAttribute("d", series.length === 1 ? under(shown) : "");
    [0, 0.5, 1].forEach((part, at) => {
      const level = y(part * top);
      for (const [name, value] of Object.entries({ x1: LEFT, x2: width - RIGHT, y1: level, y2: level })) {
        grid[at].setAttribute(name, value);
      }
      scale[at].setAttribute("x", LEFT - 6);
      scale[at].setAttribute("y", level + 4);
      setText(scale[at], most === 0 && part > 0 ? "" : format(part * top));
    });
    from.setAttribute("x", LEFT);
    from.setAttribute("y", HEIGHT - 4);
    setText(from, `${Math.round(window / 60_000)} min ago`);
    until.setAttribute("x", width - RIGHT);
    until.setAttribute("y", HEIGHT - 4);
    readOut();
  }

  function line(shown, at) {
    let path = "";
    let before = null;
    for (const point of shown) {
      const value = point.values[at];
      if (value !== null) {
        const joined = before !== null && point.at - before <= GAP_MS;
        // A point that stands alone is a dot.
        path += `${joined ? "L" : "M"}${x(point.at).toFixed(1)} ${y(value).toFixed(1)}${joined ? "" : "h0"}`;
        before = point.at;
      }
    }
    return path;
  }

  function under(shown) {
    let path = "";
    let run = [];
    const finish = () => {
      if (run.length > 1) {
        const base = y(0).toFixed(1);
        const edge = run.map((point) => `${x(point.at).toFixed(1)} ${y(point.values[0]).toFixed(1)}`);
        path += `M${x(run[0].at).toFixed(1)} ${base}L${edge.join("L")}L${x(run.at(-1).at).toFixed(1)} ${base}Z`;
      }
      run = [];
    };
    for (const point of shown) {
      if (point.values[0] === null) continue;
      if (run.length > 0 && point.at - run.at(-1).at > GAP_MS) finish();
      run.push(point);
    }
    finish();
    return path;
  }

  /** Shows the picked point, or else the last one. */
  function readOut() {
    const point = picked === null ? points.at(-1) : points.find((one) => one.at >= picked) ?? points.at(-1);
    const marked = picked !== null && point !== undefined;
    cursor.setAttribute("visibility", marked ? "visible" : "hidden");
    if (marked) {
      for (const [name, value] of Object.entries({ x1: x(point.at), x2: x(point.at), y1: TOP, y2: HEIGHT - BOTTOM })) {
        cursor.setAttribute(name, value);
      }
    }
    dots.forEach((dot, at) => {
      const value = point?.values[at] ?? null;
      dot.setAttribute("visibility", marked && value !== null ? "visible" : "hidden");
      if (marked && value !== null) {
        dot.setAttribute("cx", x(point.at));
        dot.setAttribute("cy", y(value));
      }
    });
    values.forEach((value, at) => {
      const number = point?.values[at] ?? null;
      setText(value, number === null ? "–" : format(number));
    });
    setText(when, marked ? clock(point.at) : "");
  }

  function pickAt(position) {
    if (points.length === 0) return;
    let nearest = points[0];
    for (const point of points) if (Math.abs(x(point.at) - position) < Math.abs(x(nearest.at) - position)) nearest = point;
    picked = nearest.at;
    readOut();
  }

  function unpick() {
    picked = null;
    readOut();
  }

  picture.addEventListener("pointermove", (event) => pickAt(event.clientX - picture.getBoundingClientRect().left));
  picture.addEventListener("pointerleave", unpick);
  picture.addEventListener("blur", unpick);
  picture.addEventListener("focus", describe);
  picture.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return unpick();
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined || points.length === 0) return;
    event.preventDefault();
    const at = picked === null ? points.length - 1 : points.findIndex((point) => point.at >= picked);
    picked = points[Math.max(0, Math.min(points.length - 1, at + step))].at;
    readOut();
  });

  /** For screen readers, when they come by: not each second. */
  function describe() {
    const told = series.map((one, at) => {
      const known = points.map((point) => point.values[at]).filter((value) => value !== null);
      if (known.length === 0) return `${one.name}: nothing yet`;
      return `${one.name}: now ${format(known.at(-1))}, between ${format(Math.min(...known))} and ${format(Math.max(...known))}`;
    });
    setText(summary, `${told.join("; ")}.`);
  }

  const observer = new ResizeObserver(([entry]) => {
    width = Math.round(entry.contentRect.width);
    draw();
  });
  observer.observe(picture);

  return {
    node,
    set(figures) {
      points = figures.map((figure, at) => ({
        at: Number(figure.atMs),
        values: series.map((one) => one.of(figure, figures[at - 1])),
      }));
      draw();
      if (summary.textContent === "") describe();
    },
    dispose: () => observer.disconnect(),
  };
}

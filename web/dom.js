// Building elements. Data only ever becomes text nodes, attributes of a fixed list, or properties of form fields: nothing here,
// and nothing in the console, reads markup from data.

const SVG = "http://www.w3.org/2000/svg";

/** Attributes that would run or load what they are given. */
const NEVER = new Set(["style", "srcdoc", "innerHTML", "outerHTML", "src"]);

/** Sets attributes; functions under `on…` are listeners, booleans are there or not, `value` and `checked` are properties. */
function apply(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null) continue;
    if (NEVER.has(name)) throw new Error(`attribute ${name} is not for data`);
    if (name.startsWith("on")) {
      if (typeof value !== "function") throw new Error(`${name} wants a function`);
      element.addEventListener(name.slice(2), value);
    } else if (name === "value" || name === "checked" || name === "indeterminate") {
      element[name] = value;
    } else if (name === "href" && !/^(#|\/|https?:\/\/)/.test(value)) {
      throw new Error("a link leads within the console or to another node");
    } else if (typeof value === "boolean") {
      element.toggleAttribute(name, value);
    } else {
      element.setAttribute(name, value);
    }
  }
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** An element of HTML with attributes and children; text stays text. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  apply(element, attributes ?? {});
  return append(element, children);
}

/** An element of SVG. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  apply(element, attributes ?? {});
  return append(element, children);
}

/** Replaces what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/** Text and whether it is as before: a text node that does not change does not disturb a selection or a screen reader. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Has screen readers say something. */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  announcer.textContent = "";
  requestAnimationFrame(() => (announcer.textContent = text));
}

let ids = 0;
/** An id that nothing else on the page has. */
export function uniqueId(stem) {
  ids += 1;
  return `${stem}-${ids}`;
}

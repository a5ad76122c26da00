// Elements made and kept: text only ever as text nodes, lists brought up to date by key.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties beginning with "on" are listeners; null and false are left out; text becomes a text node. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same, of SVG. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child));
  return element;
}

/** Sets text only where it differs: nothing is repainted, and no selection lost, for nothing. */
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Sets an attribute only where it differs; null takes it away. */
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

/**
 * Makes the children of `parent` those of `items`, in order; an element stays the same as long as its key does.
 * `make(item)` makes one, `update(element, item)` brings it up to date. Of items with one key the first counts.
 */
export function keyed(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const done = new Set();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    if (done.has(name)) continue;
    done.add(name);
    let child = known.get(name);
    if (child) known.delete(name);
    else {
      child = make(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const gone of known.values()) gone.remove();
}

/** The element of an id. */
export const by = (id) => document.getElementById(id);

/** Asks for motion to be left out. */
export const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A number with thin spaces between thousands; `digits` behind the point. */
export function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replaceAll(",", "\u202f");
}

/** Milliseconds as seconds with one digit. */
export const seconds = (milliseconds) => `${number(Math.max(0, milliseconds) / 1000, 1)}\u00a0s`;

/** A short time: milliseconds below a second, seconds above. */
export const length = (milliseconds) => (milliseconds < 1000 ? `${number(milliseconds)}\u00a0ms` : seconds(milliseconds));

/** A moment of today, hh:mm:ss. */
export const clock = (milliseconds) => new Date(milliseconds).toLocaleTimeString("en-GB");

/** Milliseconds as hh:mm:ss. */
export function uptime(milliseconds) {
  const whole = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (value) => String(value).padStart(2, "0");
  return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

/** The class that gives a letter its colour and pattern. */
export function slot(letter) {
  if (!letter) return "slot-none";
  return `slot-${(letter.charCodeAt(letter.length - 1) - 65) % 8}`;
}

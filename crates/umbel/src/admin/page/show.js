// Puts values into the page. Only text nodes and attributes change, and only if they differ, so that
// nothing flickers and selections stay.

const SVG = "http://www.w3.org/2000/svg";

/** The element of an id. */
export const at = (id) => document.getElementById(id);

/** Sets the text of an element. */
export function text(id, value) {
  const element = typeof id === "string" ? at(id) : id;
  const string = String(value);
  if (element.firstChild?.nodeType === Node.TEXT_NODE && element.childNodes.length === 1) {
    if (element.firstChild.data !== string) element.firstChild.data = string;
  } else {
    element.textContent = string;
  }
}

/** Shows an element, or hides it. */
export function visible(id, is) {
  const element = at(id);
  if (element.hidden === is) element.hidden = !is;
}

/** Sets a `data-` attribute, by which the style sheet knows a state. */
export function state(id, name, value) {
  const element = typeof id === "string" ? at(id) : id;
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

/** Sets how much of a bar is full, from 0 to 1. */
export function fill(element, part) {
  const width = `${(100 * Math.min(1, Math.max(0, part || 0))).toFixed(1)}%`;
  if (element.style.width !== width) element.style.width = width;
}

/** An element with classes, and children or text. */
export function make(name, classes, ...children) {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  element.append(...children);
  return element;
}

/** Keeps one child of a parent for each item, in the items' order: `create` makes it once, `update`
    sets what it shows. */
export function rows(id, items, key, create, update) {
  const parent = typeof id === "string" ? at(id) : id;
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const name = String(key(item));
    let child = there.get(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    there.delete(name);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
    update(child, item);
  });
  for (const child of there.values()) child.remove();
}

/** How long a sparkline reaches back, and how long it does before there is as much. */
const SPARK_MS = 5 * 60_000;
const SHORTEST_MS = 60_000;

/** Values over the last minutes, drawn as lines over their areas. */
export class Sparkline {
  #points = [];
  #paths = [];
  #svg;

  /** Draws into an element; later series lie on earlier ones. */
  constructor(id, classes) {
    this.#svg = document.createElementNS(SVG, "svg");
    this.#svg.setAttribute("viewBox", "0 0 300 40");
    this.#svg.setAttribute("preserveAspectRatio", "none");
    this.#svg.setAttribute("aria-hidden", "true");
    for (const name of classes) {
      const [area, line] = ["area", "line"].map((kind) => {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("class", `${kind} ${name}`);
        this.#svg.append(path);
        return path;
      });
      this.#paths.push({ area, line });
    }
    at(id).append(this.#svg);
  }

  /** Adds the values of a time; `undefined` leaves a hole. */
  add(when, values) {
    this.#points.push({ when, values });
    while (when - this.#points[0].when > SPARK_MS) this.#points.shift();
  }

  /** The largest value that is shown. */
  get peak() {
    return Math.max(0, ...this.#points.flatMap(({ values }) => values.filter(Number.isFinite)));
  }

  draw(now, hole) {
    const top = this.peak || 1;
    const span = Math.max(SHORTEST_MS, now - this.#points[0].when);
    const x = (when) => (300 - ((now - when) * 300) / span).toFixed(1);
    const y = (value) => (38.5 - (36 * value) / top).toFixed(1);
    this.#paths.forEach(({ area, line }, series) => {
      const runs = this.#runs(series, hole);
      const along = runs.map((run) => run.map(([when, value]) => `${x(when)} ${y(value)}`));
      line.setAttribute("d", along.map((run) => `M${run.join("L")}`).join(""));
      const closed = runs.map((run, at) => {
        const [first, last] = [x(run[0][0]), x(run.at(-1)[0])];
        return `M${first} 40L${along[at].join("L")}L${last} 40Z`;
      });
      area.setAttribute("d", closed.join(""));
    });
  }

  /** The stretches without holes. */
  #runs(series, hole) {
    const runs = [];
    let last;
    for (const { when, values } of this.#points) {
      const value = values[series];
      if (!Number.isFinite(value)) {
        last = undefined;
        continue;
      }
      if (last === undefined || when - last > hole) runs.push([]);
      runs.at(-1).push([when, value]);
      last = when;
    }
    return runs;
  }
}

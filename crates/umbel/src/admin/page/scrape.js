// Reads the text of /metrics, keeps the last minute of it, and answers what the panels ask:
// values now, differences over a while, quantiles of what was observed in it.
//
// A family that the node doesn't have is `undefined`, never 0.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** How long scrapes are kept. */
const KEPT_MS = 62_000;

/** After so long without a scrape, what was before says nothing about now. */
export const HOLE_MS = 6_000;

/** Every series that was ever seen, by its text, so that scrapes share names and labels. */
const known = new Map();

/** The series of each name. */
const byName = new Map();

function seriesOf(text, name, labelText) {
  let series = known.get(text);
  if (!series) {
    const unescape = (value) => value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    const labels = {};
    for (const [, label, value] of (labelText ?? "").matchAll(LABEL)) labels[label] = unescape(value);
    series = { name, labels };
    known.set(text, series);
    if (!byName.has(name)) byName.set(name, []);
    byName.get(name).push(series);
  }
  return series;
}

function number(text) {
  if (text === "+Inf") return Infinity;
  if (text === "-Inf") return -Infinity;
  return Number(text);
}

/** The values of one scrape, by series. */
export function parse(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const match = LINE.exec(line);
    if (!match) continue;
    const end = line.lastIndexOf(" ");
    values.set(seriesOf(line.slice(0, end), match[1], match[2]), number(match[3]));
  }
  return values;
}

const matches = (series, where) =>
  !where || Object.entries(where).every(([label, value]) => series.labels[label] === value);

/** The scrapes of the last minute. */
export class Scrapes {
  #kept = [];

  /** Takes a scrape, begun at a time of `performance.now()`. */
  add(at, values) {
    const last = this.#kept.at(-1);
    const start = (scrape) => this.#sum(scrape, "process_start_time_seconds");
    const next = { at, values };
    // Another process, or a long silence: differences would be of two things.
    if (last && (at - last.at > HOLE_MS || start(last) !== start(next))) this.#kept = [];
    this.#kept.push(next);
    while (at - this.#kept[0].at > KEPT_MS) this.#kept.shift();
  }

  /** The sum of a family's series now. */
  now(name, where) {
    return this.#sum(this.#kept.at(-1), name, where);
  }

  /** The largest of a family's series now. */
  peak(name) {
    const values = this.#values(this.#kept.at(-1), name);
    return values.length ? Math.max(...values) : undefined;
  }

  /** The series of a family that the node has now: `[labels, value]`. */
  each(name) {
    const values = this.#kept.at(-1)?.values;
    const there = (byName.get(name) ?? []).filter((series) => values?.has(series));
    return there.map((series) => [series.labels, values.get(series)]);
  }

  /** The values of one label that a family has now. */
  labels(name, label) {
    const values = this.each(name).map(([labels]) => labels[label]);
    return [...new Set(values)].filter((value) => value !== undefined);
  }

  /** By how much a counter grew in the last seconds, or since the first scrape. */
  grown(name, seconds, where) {
    const [first, last] = this.#ends(seconds);
    const now = this.#sum(last, name, where);
    if (now === undefined || first === last) return undefined;
    // A series that wasn't there has begun at 0.
    return Math.max(0, now - (this.#sum(first, name, where) ?? 0));
  }

  /** The same per second. */
  rate(name, seconds, where) {
    const [first, last] = this.#ends(seconds);
    const grown = this.grown(name, seconds, where);
    return grown === undefined ? undefined : grown / ((last.at - first.at) / 1000);
  }

  /** A histogram's quantiles over the last seconds: none if nothing was observed, `Infinity` past
      the last bucket. */
  quantiles(name, seconds, fractions, where) {
    const [first, last] = this.#ends(seconds);
    const buckets = new Map();
    for (const series of byName.get(`${name}_bucket`) ?? []) {
      if (!last?.values.has(series) || !matches(series, where)) continue;
      const le = number(series.labels.le);
      const grown = last.values.get(series) - (first.values.get(series) ?? 0);
      buckets.set(le, (buckets.get(le) ?? 0) + grown);
    }
    const sorted = [...buckets].sort(([a], [b]) => a - b);
    const count = sorted.at(-1)?.[1] ?? 0;
    if (first === last || !(count > 0)) return fractions.map(() => undefined);
    return fractions.map((fraction) => quantile(sorted, fraction * count));
  }

  /** The last scrape and the one before it by so many seconds, at most. */
  #ends(seconds) {
    const last = this.#kept.at(-1);
    // Half a second of grace: timers are late.
    const first = this.#kept.find(({ at }) => at >= last.at - seconds * 1000 - 500);
    return [first, last];
  }

  #values(scrape, name, where) {
    const values = [];
    for (const series of byName.get(name) ?? []) {
      const value = scrape?.values.get(series);
      if (value !== undefined && matches(series, where)) values.push(value);
    }
    return values;
  }

  #sum(scrape, name, where) {
    const values = this.#values(scrape, name, where);
    return values.length ? values.reduce((sum, value) => sum + value, 0) : undefined;
  }
}

/** Where so many of the observations lie below, taken as even within a bucket. */
function quantile(buckets, rank) {
  let [below, lower] = [0, 0];
  for (const [upper, count] of buckets) {
    if (count >= rank) {
      if (upper === Infinity) return Infinity;
      return lower + ((upper - lower) * (rank - below)) / Math.max(count - below, 1);
    }
    [below, lower] = [count, upper];
  }
  return Infinity;
}

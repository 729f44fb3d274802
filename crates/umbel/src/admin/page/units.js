// Numbers as people read them: three digits at most and the unit; a dash for what isn't known.

const NONE = "–";
/** Between a number and its unit: narrow, and no place for a line break. */
const GAP = "\u202f";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const isNothing = (value) => value === undefined || Number.isNaN(value);

/** Three digits: 1.23, 12.3, 123. */
function digits(value) {
  if (value === 0) return "0";
  const places = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return value.toFixed(places);
}

function scaled(value, step, units) {
  let at = 0;
  while (value >= step * 0.9995 && at < units.length - 1) {
    value /= step;
    at += 1;
  }
  return [value, units[at]];
}

/** Things that are counted one by one: `12,345`. */
export function count(value) {
  if (isNothing(value)) return NONE;
  return value === Infinity ? "∞" : whole.format(value);
}

/** `12.3 k` */
export function short(value) {
  if (isNothing(value)) return NONE;
  if (value < 1000) return Number.isInteger(value) ? String(value) : digits(value);
  const [number, unit] = scaled(value, 1000, ["", "k", "M", "G", "T"]);
  return `${digits(number)}${GAP}${unit}`;
}

/** `12.3 k/s` */
export function perSecond(value) {
  if (isNothing(value)) return NONE;
  if (value > 0 && value < 0.01) return `<0.01${GAP}/s`;
  const [number, unit] = scaled(value, 1000, ["", "k", "M", "G"]);
  return `${digits(number)}${GAP}${unit}/s`;
}

/** `4.1 MiB` */
export function bytes(value) {
  if (isNothing(value)) return NONE;
  if (value < 1024) return `${Math.round(value)}${GAP}B`;
  const [number, unit] = scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
  return `${digits(number)}${GAP}${unit}`;
}

/** `3.2 ms` */
export function time(seconds) {
  if (isNothing(seconds)) return NONE;
  if (seconds === Infinity) return `>5${GAP}s`;
  const sign = seconds < 0 ? "−" : "";
  const size = Math.abs(seconds);
  if (size === 0) return `0${GAP}ms`;
  if (size < 0.0009995) return `${sign}${Math.round(size * 1e6)}${GAP}µs`;
  if (size < 0.9995) return `${sign}${digits(size * 1e3)}${GAP}ms`;
  return `${sign}${digits(size)}${GAP}s`;
}

/** `3 d 4 h` */
export function span(seconds) {
  if (isNothing(seconds)) return NONE;
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const many = Math.floor(rest / size);
    rest -= many * size;
    if (many || parts.length || unit === "s") parts.push(`${many}${GAP}${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

/** `99.2 %`; never 0 of what is something, nor 100 of what isn't whole. */
export function percent(part) {
  if (isNothing(part)) return NONE;
  if (part === 0 || part === 1) return `${part * 100}${GAP}%`;
  if (part < 0.001) return `<0.1${GAP}%`;
  if (part > 0.999 && part < 1) return `>99.9${GAP}%`;
  return `${(part * 100).toFixed(part < 0.9995 ? 1 : 0)}${GAP}%`;
}

/** `5.2` of something per something. */
export function ratio(value) {
  return isNothing(value) || value === Infinity ? NONE : digits(value);
}

/** A label as words: `too_big` is `too big`. */
export const words = (label) => label.replaceAll("_", " ");

/** A time of day. */
export const clock = (date) => date.toLocaleTimeString("en-GB");

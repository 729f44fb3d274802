// The page's life: one scrape a second while somebody looks, and what to say when none comes.

import * as leave from "./leave.js";
import * as log from "./log.js";
import * as panels from "./panels.js";
import { Scrapes, parse } from "./scrape.js";
import { at, state, text, visible } from "./show.js";
import { clock } from "./units.js";

const PERIOD_MS = 1000;
/** How long an answer may take. */
const PATIENCE_MS = 4000;
/** Readiness is asked for with every so many scrapes, and whenever they hint at a change. */
const READY_EVERY = 3;

const scrapes = new Scrapes();
/** When the last scrape came, by this computer's clock. */
let seen;
let ticks = 0;
let hint;
let timer;
let isAsking = false;
/** How often in a row there was no answer. */
let failures = 0;
let knowsLog = false;

function get(path) {
  return fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
}

async function scrape() {
  const begun = performance.now();
  const answer = await get("/metrics");
  if (!answer.ok) throw new Error(`/metrics answers ${answer.status}`);
  scrapes.add(begun, parse(await answer.text()));
  seen = new Date();
  panels.show(scrapes, begun);
  // The node's own clock: this computer's may be another.
  const said = Date.parse(answer.headers.get("date"));
  panels.identity(scrapes, (Number.isNaN(said) ? Date.now() : said) / 1000);
}

async function stage() {
  const leaves = scrapes.now("umbel_leaving") > 0;
  const isKnown = scrapes.now("umbel_drain_stage") !== undefined;
  leave.show(scrapes, leaves && !isKnown ? await (await get("/drain")).json() : undefined);
}

async function readiness() {
  const now = `${scrapes.now("umbel_leaving")} ${scrapes.now("umbel_broker_up")}`;
  const isDue = now !== hint || ticks % READY_EVERY === 0;
  hint = now;
  if (!isDue) return;
  const answer = await get("/readyz");
  const reason = (await answer.text()).trim();
  if (answer.ok) badge("good", "Ready", "");
  else badge(leave.leaves() ? "warn" : "bad", leave.leaves() ? "Leaving" : "Not ready", reason);
}

function badge(kind, word, reason) {
  state("readiness", "state", kind);
  text("ready", word);
  text("reason", reason);
  const node = at("node").textContent || location.host;
  document.title = kind === "good" ? `${node} · Umbel` : `${word}: ${node} · Umbel`;
}

function gone(error) {
  // What fetch throws differs between browsers.
  const what = error.constructor === Error ? error.message : "The node doesn’t answer";
  const left = leave.leaves() ? "The node was leaving, and is gone" : what;
  const from = seen ? `; what is shown is from ${clock(seen)}` : "";
  text("gone", `${left}${from}. Asking again each second.`);
  visible("gone", true);
  state("main", "stale", "yes");
  badge("bad", leave.leaves() ? "Gone" : "No answer", "");
  hint = undefined;
}

async function tick() {
  if (isAsking) return;
  isAsking = true;
  clearTimeout(timer);
  const begun = performance.now();
  try {
    await scrape();
    await stage();
    await readiness();
    failures = 0;
    visible("gone", false);
    state("main", "stale", "no");
    // The filter comes with the count of what is logged.
    if (!knowsLog && scrapes.now("umbel_log_events_total") !== undefined) {
      knowsLog = true;
      await log.begin();
    }
  } catch (error) {
    failures += 1;
    // Once may be a connection that has ended as it was used again.
    if (failures > 1) gone(error);
  }
  ticks += 1;
  isAsking = false;
  const period = failures === 1 ? PERIOD_MS / 4 : PERIOD_MS;
  schedule(begun + period - performance.now());
}

/** The next tick, unless nobody looks. */
function schedule(wait) {
  clearTimeout(timer);
  if (document.visibilityState === "visible") timer = setTimeout(tick, Math.max(0, wait));
}

document.addEventListener("visibilitychange", () => schedule(0));
leave.begin(() => schedule(0));
tick();

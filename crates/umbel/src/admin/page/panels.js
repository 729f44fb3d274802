// What each panel shows of the scrapes. A family that the node lacks shows a dash, or no panel.

import { HOLE_MS } from "./scrape.js";
import { Sparkline, at, fill, make, rows, state, text, visible } from "./show.js";
import { bytes, count, percent, perSecond, ratio, short, span, time, words } from "./units.js";

/** Over how many seconds a rate is taken: short enough to follow, long enough to be calm. */
const RATE = 5;
const MINUTE = 60;

const sparks = {
  sessions: new Sparkline("spark-sessions", ["ws", "sse"]),
  in: new Sparkline("spark-in", ["ws", "sse"]),
  out: new Sparkline("spark-out", ["ws"]),
  latency: new Sparkline("spark-latency", ["time"]),
};

/** Shows all that the last scrape says. */
export function show(scrapes, when) {
  sessions(scrapes, when);
  rates(scrapes, when);
  delivery(scrapes);
  comings(scrapes);
  times(scrapes);
  rules(scrapes);
  broker(scrapes);
  memory(scrapes);
  trouble(scrapes);
  for (const spark of Object.values(sparks)) spark.draw(when, HOLE_MS);
}

function sessions(scrapes, when) {
  const open = (transport) => scrapes.now("umbel_sessions_open", { transport });
  const all = scrapes.now("umbel_sessions_open");
  text("sessions", count(all));
  text("sessions-websocket", count(open("websocket")));
  text("sessions-sse", count(open("sse")));
  sparks.sessions.add(when, [all, open("sse")]);

  const limit = scrapes.now("umbel_sessions_limit");
  visible("limit", limit !== undefined);
  text("limit-count", limit === Infinity ? "any number" : count(limit));
  text("limit-part", limit > 0 && limit !== Infinity ? percent(all / limit) : "");
  fill(at("limit-bar"), limit > 0 ? all / limit : 0);
}

function rates(scrapes, when) {
  const RECEIVED = "umbel_messages_received_total";
  text("messages-in", perSecond(scrapes.rate(RECEIVED, RATE)));
  text("deliveries", perSecond(scrapes.rate("umbel_deliveries_total", RATE)));
  text("bytes-out", `${bytes(scrapes.rate("umbel_sent_bytes_total", RATE))}/s`);
  const by = (source) => perSecond(scrapes.rate(RECEIVED, RATE, { source }));
  text("in-http", by("http"));
  text("in-session", by("session"));
  const session = scrapes.rate(RECEIVED, 1, { source: "session" });
  sparks.in.add(when, [scrapes.rate(RECEIVED, 1), session]);
  sparks.out.add(when, [scrapes.rate("umbel_deliveries_total", 1)]);
  text("peak-out", perSecond(sparks.out.peak));

  const [p50, p99] = scrapes.quantiles("umbel_delivery_seconds", 10, [0.5, 0.99]);
  text("p50", time(p50));
  text("p99", time(p99));
  // Past the last bucket nobody knows how far.
  sparks.latency.add(when, [p99 === undefined ? undefined : Math.min(p99, 5)]);
}

function delivery(scrapes) {
  const expected = scrapes.grown("umbel_deliveries_expected_total", MINUTE);
  // Those that are skipped since the session doesn't want them, or gets them otherwise, lack nowhere.
  const skipped = ["own", "ended", "slow_latest", "catch_up"].map((reason) =>
    scrapes.grown("umbel_deliveries_skipped_total", MINUTE, { reason }) ?? 0);
  const made = skipped.reduce((sum, many) => sum + many, scrapes.grown("umbel_deliveries_total", MINUTE));
  // What was expected just before the minute may be made in it.
  text("whole", percent(expected > 0 ? Math.min(1, made / expected) : undefined));
  text("pending", count(scrapes.now("umbel_deliveries_pending")));
  const writes = scrapes.rate("umbel_session_writes_total", RATE);
  const deliveries = scrapes.rate("umbel_deliveries_total", RATE);
  text("coalescing", ratio(writes > 0 ? deliveries / writes : undefined));
  text("replayed", perSecond(scrapes.rate("umbel_replayed_total", RATE)));
  text("subscriptions", count(scrapes.now("umbel_subscriptions")));
  text("topics", count(scrapes.now("umbel_topics")));
}

function comings(scrapes) {
  text("opened", perSecond(scrapes.rate("umbel_sessions_opened_total", RATE)));
  text("closed", perSecond(scrapes.rate("umbel_sessions_closed_total", RATE)));
  text("connections", count(scrapes.now("umbel_connections_open")));
  const closed = moved(scrapes, "umbel_sessions_closed_total", "reason").filter((row) => row.minute);
  closed.sort((a, b) => b.minute - a.minute);
  visible("closed-calm", closed.length === 0);
  rows("closed-rows", closed.slice(0, 4), (row) => row.label, pair, (element, row) => {
    text(element.children[0], words(row.label));
    text(element.children[1], count(row.minute));
  });
}

/** How much a family's series grew, by a label: in the last minute and since the start. */
function moved(scrapes, family, label) {
  const row = (value) => ({
    label: value,
    minute: Math.round(scrapes.grown(family, MINUTE, { [label]: value }) ?? 0),
    total: scrapes.now(family, { [label]: value }),
  });
  return scrapes.labels(family, label).map(row).filter(({ total }) => total > 0);
}

const pair = () => make("div", "", make("dt"), make("dd"));

const TIMES = [
  ["publish → socket", "umbel_delivery_seconds"],
  ["fan-out", "umbel_fan_out_seconds"],
  ["canary", "umbel_canary_seconds"],
  ["publish request", "umbel_publish_seconds"],
  ["handshake", "umbel_handshake_seconds"],
];

function times(scrapes) {
  const there = TIMES.filter(([, family]) => scrapes.now(`${family}_count`) !== undefined);
  const create = ([name]) => {
    const head = make("th", "", name);
    head.scope = "row";
    return make("tr", "", head, ...[0, 1, 2, 3].map(() => make("td")));
  };
  rows("time-rows", there, ([name]) => name, create, (row, [, family]) => {
    const found = [10, MINUTE].flatMap((last) => scrapes.quantiles(family, last, [0.5, 0.99]));
    found.forEach((value, place) => text(row.children[place + 1], time(value)));
  });
  text("lag", time(scrapes.peak("umbel_event_loop_lag_peak_seconds")));

  const BUSY = "umbel_runtime_busy_seconds_total";
  const busy = scrapes.labels(BUSY, "worker").map((worker) => scrapes.rate(BUSY, RATE, { worker }));
  visible("busy-row", busy.length > 0);
  text("busy", percent(busy.length ? Math.min(1, Math.max(...busy)) : undefined));
}

/** How many topic rules are shown. */
const RULES = 8;

function rules(scrapes) {
  const FAMILY = "umbel_deliveries_total";
  const all = scrapes.labels(FAMILY, "rule").map((rule) => ({
    rule,
    minute: scrapes.rate(FAMILY, MINUTE, { rule }) ?? 0,
    rate: scrapes.rate(FAMILY, RATE, { rule }),
    p99: scrapes.quantiles("umbel_delivery_seconds", MINUTE, [0.99], { rule })[0],
  }));
  visible("rules", all.length > 0);
  // By the minute, so that rows seldom change places.
  all.sort((a, b) => b.minute - a.minute || (a.rule < b.rule ? -1 : 1));
  const busiest = Math.max(...all.map(({ rate }) => rate ?? 0));
  const create = () => {
    const head = make("th");
    head.scope = "row";
    const bar = make("td", "bar-column", make("div", "bar", make("i")));
    return make("tr", "", head, bar, make("td"), make("td"));
  };
  rows("rule-rows", all.slice(0, RULES), ({ rule }) => rule, create, (row, { rule, rate, p99 }) => {
    text(row.children[0], rule);
    fill(row.querySelector("i"), busiest > 0 ? rate / busiest : 0);
    text(row.children[2], perSecond(rate));
    text(row.children[3], time(p99));
  });
  const more = all.length - RULES;
  text("rules-more", more > 0 ? `and ${more} more with fewer` : "");
  visible("rules-more", more > 0);
}

function broker(scrapes) {
  const up = scrapes.now("umbel_broker_up");
  const isRedis = up !== undefined;
  visible("broker-memory", !isRedis);
  visible("broker-redis", isRedis);
  text("broker-state", isRedis ? (up ? "Redis, up" : "Redis, down") : "memory");
  state("broker-state", "state", isRedis ? (up ? "good" : "bad") : "unknown");
  if (!isRedis) return;
  const total = (name) => scrapes.now(`umbel_broker_${name}`);
  const rate = (name) => scrapes.rate(`umbel_broker_${name}`, RATE);
  text("broker-probe", time(scrapes.quantiles("umbel_broker_probe_seconds", MINUTE, [0.99])[0]));
  text("broker-skew", time(total("clock_skew_seconds")));
  text("broker-received", perSecond(rate("messages_total")));
  text("broker-published", perSecond(rate("published_total")));
  text("broker-topics", count(total("topics")));
  text("broker-behind", count(total("topics_behind")));
  text("broker-repaired", short(total("repaired_total")));
  text("broker-gaps", short(total("gaps_total")));
}

/** What holds memory, in the order of the bar; what isn't named here comes last. */
const HOLDERS = ["logs", "history", "sockets", "tables", "connections"];
/** What has held something while the page was open stays in the list, so that it doesn't jump. */
const held = new Set();

function memory(scrapes) {
  const by = new Map(scrapes.each("umbel_held_bytes").map(([labels, value]) => [labels.by, value]));
  by.set("logs", scrapes.now("umbel_log_bytes"));
  by.set("history", scrapes.now("umbel_history_bytes"));
  const budget = scrapes.now("umbel_memory_budget_bytes");
  const total = [...by.values()].reduce((sum, value) => sum + (value ?? 0), 0);
  text("held", bytes(total));
  text("budget", bytes(budget));
  text("held-part", percent(budget > 0 ? total / budget : undefined));

  for (const [name, value] of by) if (value > 0) held.add(name);
  const place = (name) => (HOLDERS.indexOf(name) + 1 || HOLDERS.length + 1) - 1;
  const shown = [...held].sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  const colour = (name) => `held-${place(name)}`;
  rows("held-bar", shown, String, (name) => make("i", colour(name)), (bar, name) => {
    fill(bar, budget > 0 ? by.get(name) / budget : 0);
  });
  const create = (name) => {
    const item = make("li", "", make("i", `dot ${colour(name)}`), make("span", "", words(name)));
    item.append(make("b", "number"));
    return item;
  };
  rows("held-legend", shown, String, create, (item, name) => {
    text(item.children[2], bytes(by.get(name)));
  });

  text("rss", bytes(scrapes.now("process_resident_memory_bytes")));
  const descriptors = ["open", "max"].map((which) => count(scrapes.now(`process_${which}_fds`)));
  text("descriptors", descriptors.join(" of "));
  // The kernel counts it in whole seconds for some, so over a minute.
  const cpu = scrapes.rate("process_cpu_seconds_total", MINUTE);
  text("cpu", cpu === undefined ? "–" : `${ratio(cpu)} cores`);
}

/** The kernel's count for all that listens on the machine, since that started: only news is shown. */
const OF_MACHINE = "umbel_accept_queue_overflows_total";

const TROUBLE = [
  ["slow consumer", "umbel_slow_consumers_total", "policy"],
  ["gap", "umbel_gaps_total", "reason"],
  ["over a limit", "umbel_limited_total", "limit"],
  ["not accepted", "umbel_accept_errors_total"],
  ["accept queue full", OF_MACHINE, undefined, "this machine"],
  ["canary lost", "umbel_canaries_lost_total"],
  ["log lines", "umbel_log_events_suppressed_total", undefined, "suppressed"],
];

function trouble(scrapes) {
  const all = TROUBLE.flatMap(([kind, family, label, detail]) => {
    const found = label
      ? moved(scrapes, family, label)
      : [{
          label: detail,
          minute: Math.round(scrapes.grown(family, MINUTE) ?? 0),
          total: scrapes.now(family),
        }];
    const named = (row) => ({ ...row, name: row.label ? `${kind}: ${words(row.label)}` : kind });
    const isShown = ({ minute, total }) => (family === OF_MACHINE ? minute > 0 : total > 0);
    return found.filter(isShown).map(named);
  });
  visible("trouble-calm", all.length === 0);
  visible("trouble", all.length > 0);
  const create = ({ name }) => {
    const head = make("th", "", name);
    head.scope = "row";
    return make("tr", "", head, make("td"), make("td"));
  };
  rows("trouble-rows", all, ({ name }) => name, create, (row, { minute, total }) => {
    state(row, "state", minute > 0 ? "bad" : "past");
    text(row.children[1], short(minute));
    text(row.children[2], short(total));
  });
}

/** Since when and as what the node runs. */
export function identity(scrapes, nodeTime) {
  const [labels] = scrapes.each("umbel_build_info")[0] ?? [{}];
  text("version", labels.version ?? "");
  text("node", labels.node ?? location.host);
  const start = scrapes.now("process_start_time_seconds");
  text("uptime", span(start === undefined ? undefined : nodeTime - start));
}

// How the node leaves: where it stands, and the button that asks it to.

import { ask } from "./ask.js";
import { at, fill, state, text, visible } from "./show.js";
import { count, span } from "./units.js";

const STAGES = ["serving", "announced", "moving", "hurried", "stopping"];

const SAYS = {
  serving: "Takes the node out of service and moves its sessions to others.",
  announced: "It still serves, and says to load balancers that it won't for long.",
  moving: "It takes no new connections and moves its sessions, at a steady pace.",
  hurried: "It moves all its sessions now.",
  stopping: "It ends what is left.",
};

/** Where the node stood last. */
let stage = "serving";
let sessions;
/** The most sessions since it was asked, and since when. */
let most = 0;
let since;
/** What `umbel_drain_planned_seconds` says. */
let planned;

/** Whether it was leaving when it last answered. */
export const leaves = () => stage !== "serving";

/** Shows where it stands: by the metrics, else by what `/drain` says. */
export function show(scrapes, said) {
  const number = scrapes.now("umbel_drain_stage");
  const unsaid = scrapes.now("umbel_leaving") ? "announced" : "serving";
  stage = STAGES[number] ?? said?.stage ?? unsaid;
  sessions = scrapes.now("umbel_sessions_open");
  planned = scrapes.now("umbel_drain_planned_seconds");
  if (!leaves()) [most, since] = [0, undefined];
  else since ??= performance.now();
  most = Math.max(most, sessions ?? 0);

  const place = STAGES.indexOf(stage);
  const shown = stage === "hurried" ? "moving" : stage;
  for (const item of at("stages").children) {
    const is = item.dataset.stage;
    if (is === shown) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    state(item, "state", STAGES.indexOf(is) < place ? "past" : "");
  }
  state("stages", "leaves", leaves() ? "yes" : "no");
  text("leave-says", SAYS[stage]);
  visible("leaving", leaves());
  text("left", count(sessions));
  fill(at("left-bar"), most > 0 ? 1 - sessions / most : 1);
  const elapsed = scrapes.now("umbel_drain_elapsed_seconds") || (performance.now() - since) / 1000;
  text("left-time", planned ? `${span(elapsed)} of ${span(planned)}` : span(elapsed));
  text("leave", leaves() ? "Hurry…" : "Drain this node…");
  at("leave").disabled = STAGES.indexOf(stage) >= STAGES.indexOf("hurried");
}

/** Which node it is, as its page is headed. */
const name = () => at("node").textContent || location.host;
const many = () => (sessions === 1 ? "its session" : `its ${count(sessions)} sessions`);

/** Has the button ask, and `done` called once the node has agreed. */
export function begin(done) {
  at("leave").addEventListener("click", () => {
    if (leaves()) {
      ask({
        title: "Move all sessions now?",
        text: `${name()} moves ${many()} at once instead of at a steady pace, then it ends. ` +
          "Other nodes get them all together.",
        yes: "Hurry",
        path: "/drain?hurry",
        done,
      });
    } else {
      const over = planned ? ` over ${span(planned)} in all` : "";
      ask({
        title: "Drain this node?",
        text: `${name()} says that it isn't ready and waits a while for load balancers to see that. Then it ` +
          `takes no new connections, moves ${many()} to other nodes${over}, and its process ends. ` +
          "That can't be called off.",
        yes: "Drain",
        path: "/drain",
        done,
      });
    }
  });
}

// The filter of the node's log, if the node has it to set.

import { ask, change } from "./ask.js";
import { at, text, visible } from "./show.js";

const input = at("log-filter");

/** A filter that is set here is for a look, and goes by itself. */
const PATH = "/log?minutes=60";

/** Shows the filter if `GET /log` answers with it. */
export async function begin() {
  let answer;
  try {
    answer = await fetch("/log", { cache: "no-store" });
  } catch {
    return;
  }
  visible("log", answer.ok);
  if (answer.ok) input.value = filterOf(await answer.text());
}

/** As plain text, or as `filter` of an object. */
function filterOf(said) {
  try {
    return JSON.parse(said).filter ?? said.trim();
  } catch {
    return said.trim();
  }
}

at("log-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const filter = input.value.trim();
  const done = () => text("log-says", `Set to ${filter} for an hour.`);
  const answer = await change(PATH, filter);
  if (answer.ok) return done();
  if (answer.status === 401 || answer.status === 403) {
    const title = "Set the log filter?";
    return ask({ title, text: filter, yes: "Set", path: PATH, body: filter, done }, answer);
  }
  text("log-says", `Not set: ${answer.detail}`);
});

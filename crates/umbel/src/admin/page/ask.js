// Requests that change something, each asked for first.

import { at, text, visible } from "./show.js";

/** The admin token that was given. Kept nowhere else. */
let token = "";

/** What the dialog is about. */
let asked;

const dialog = at("ask");

/** Sends a request that changes something; gives its status and, if refused, why. */
export async function change(path, body) {
  const headers = { "Umbel-Admin": "1" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const signal = AbortSignal.timeout(10_000);
    const answer = await fetch(path, { method: "POST", headers, body, signal });
    return { status: answer.status, ok: answer.ok, detail: await detailOf(answer) };
  } catch {
    return { status: 0, ok: false, detail: "the node doesn't answer" };
  }
}

async function detailOf(answer) {
  const said = await answer.text();
  try {
    return JSON.parse(said).detail ?? said;
  } catch {
    return said.trim();
  }
}

/** Opens the dialog: `{ title, text, yes, path, body, done }`. `refused` is the answer to an attempt
    that was made already. */
export function ask(question, refused) {
  asked = question;
  text("ask-title", question.title);
  text("ask-text", question.text);
  text("ask-yes", question.yes);
  text("ask-error", "");
  visible("ask-token", false);
  at("token").value = "";
  at("ask-yes").disabled = false;
  dialog.showModal();
  at("ask-no").focus();
  if (refused) refuse(refused);
}

/** Says why not, and what would help. */
function refuse({ status, detail }) {
  if (status === 401) {
    const again = !at("ask-token").hidden;
    token = "";
    visible("ask-token", true);
    text("ask-error", again ? "The node doesn't take this token." : "The node wants its admin token.");
    at("token").focus();
  } else if (status === 403) {
    text("ask-error",
      `Refused: ${detail}. Open this page on that machine, as http://127.0.0.1:${location.port}/ ` +
      "or through a forwarded port, or set admin.token.");
  } else {
    text("ask-error", status ? `Refused with ${status}: ${detail}` : `Not done: ${detail}`);
  }
}

at("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (at("token").value) token = at("token").value;
  at("ask-yes").disabled = true;
  const about = asked;
  const answer = await change(about.path, about.body);
  // It may have been cancelled, and opened again for something else.
  if (asked !== about) return;
  at("ask-yes").disabled = false;
  if (!answer.ok) return refuse(answer);
  dialog.close();
  about.done(answer);
});

at("ask-no").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  // The event comes later than the end: it may be open again, for something else.
  if (dialog.open) return;
  asked = undefined;
  at("token").value = "";
});

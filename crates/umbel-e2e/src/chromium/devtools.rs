//! The protocol by which Chromium is steered: JSON, each object followed by a zero byte
//! (<https://chromedevtools.github.io/devtools-protocol/>).

use std::collections::HashMap;
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::within;

/// The pipe that commands go into and the one that answers and events come from.
pub(super) type Pipes = (ChildStdin, ChildStdout);

/// How many events of a tab may wait for the test to look at them: more than any test causes.
const EVENTS: usize = 4096;

/// One browser's end of the protocol.
#[derive(Debug)]
pub(super) struct Devtools {
    commands: tokio::sync::Mutex<tokio::process::ChildStdin>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    commands: u64,
    /// Who waits for the answer to a command, by its number.
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    /// Where the events of a tab go, by the protocol's session.
    tabs: HashMap<String, mpsc::Sender<Value>>,
}

impl Devtools {
    /// Takes over a browser's pipes. The task ends with the browser.
    pub(super) fn on((stdin, stdout): Pipes) -> (Arc<Self>, JoinSet<()>) {
        let stdin = tokio::process::ChildStdin::from_std(stdin).unwrap();
        let stdout = tokio::process::ChildStdout::from_std(stdout).unwrap();
        let commands = tokio::sync::Mutex::new(stdin);
        let devtools = Arc::new(Self { commands, state: Mutex::default() });
        let mut reader = JoinSet::new();
        reader.spawn(Arc::clone(&devtools).read(BufReader::new(stdout)));
        (devtools, reader)
    }

    /// A command to the browser, or to a tab, and its result.
    pub(super) async fn call(&self, tab: Option<&str>, method: &str, params: Value) -> Value {
        let (sender, answer) = oneshot::channel();
        let id = self.state().expect_answer(sender);
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(tab) = tab {
            command["sessionId"] = tab.into();
        }
        let bytes = [command.to_string().as_bytes(), b"\0"].concat();
        // If it has ended no answer comes either.
        let _ = self.commands.lock().await.write_all(&bytes).await;
        let answer = within(method, answer).await;
        let mut answer =
            answer.expect("Chromium runs and answers (Debian: apt-get install chromium)");
        assert_eq!(answer["error"], Value::Null, "{command}");
        answer["result"].take()
    }

    /// The events of a tab from now on.
    pub(super) fn events(&self, tab: &str) -> mpsc::Receiver<Value> {
        let (sender, events) = mpsc::channel(EVENTS);
        self.state().tabs.insert(tab.to_owned(), sender);
        events
    }

    async fn read(self: Arc<Self>, mut stdout: BufReader<tokio::process::ChildStdout>) {
        let mut bytes = Vec::new();
        while stdout.read_until(0, &mut bytes).await.is_ok() && bytes.pop() == Some(0) {
            self.state().take(serde_json::from_slice(&bytes).unwrap());
            bytes.clear();
        }
        // Whoever waits learns that nothing comes any more.
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn expect_answer(&mut self, sender: oneshot::Sender<Value>) -> u64 {
        self.commands += 1;
        self.waiting.insert(self.commands, sender);
        self.commands
    }

    /// An answer or an event.
    fn take(&mut self, object: Value) {
        if let Some(id) = object["id"].as_u64() {
            if let Some(waiting) = self.waiting.remove(&id) {
                let _ = waiting.send(object);
            }
        } else if let Some(tab) = object["sessionId"].as_str().and_then(|tab| self.tabs.get(tab)) {
            // A tab may be dropped while its page goes on.
            let full = matches!(tab.try_send(object), Err(mpsc::error::TrySendError::Full(_)));
            assert!(!full, "a page does more than its test looks at");
        }
    }
}

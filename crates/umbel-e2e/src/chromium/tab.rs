//! A tab and the page in it.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::devtools::Devtools;
use crate::{DEADLINE, within};

/// A page that is open. Dropped, it stays open until its browser ends.
#[derive(Debug)]
pub struct Tab {
    devtools: Arc<Devtools>,
    /// The protocol's name for it.
    session: String,
    events: mpsc::Receiver<Value>,
    /// The protocol's name for the last document that has loaded, with all that is in it.
    loaded: Value,
    reports: VecDeque<Value>,
    errors: Vec<String>,
}

impl Tab {
    pub(super) async fn open(devtools: Arc<Devtools>, url: &str) -> Self {
        let blank = json!({"url": "about:blank"});
        let target = devtools.call(None, "Target.createTarget", blank).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = devtools.call(None, "Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let events = devtools.events(&session);
        let mut tab = Self {
            devtools,
            session,
            events,
            loaded: Value::Null,
            reports: VecDeque::new(),
            errors: Vec::new(),
        };
        for domain in ["Log.enable", "Page.enable", "Runtime.enable"] {
            tab.call(domain, json!({})).await;
        }
        tab.call("Page.setLifecycleEventsEnabled", json!({"enabled": true})).await;
        tab.call("Runtime.addBinding", json!({"name": "tell"})).await;
        tab.load(url).await;
        tab
    }

    /// Begins a script, in an async function of its own: it may `await`, and hands values to
    /// [`report`](Self::report) by a function of that name.
    pub async fn run(&self, script: &str) {
        let report = "const report = value => tell(JSON.stringify(value));";
        self.evaluate(&format!("(async () => {{ {report}\n{script}\n}})()"), false).await;
    }

    /// The value of an expression; if it is a promise, what that comes to.
    pub async fn value(&self, expression: &str) -> Value {
        self.evaluate(expression, true).await["value"].take()
    }

    /// The next value that the page's scripts reported. Panics if one of them failed, or if nothing
    /// comes.
    pub async fn report(&mut self) -> Value {
        let next = async {
            loop {
                match self.reports.pop_front() {
                    Some(report) => return report,
                    None => self.next_event().await,
                }
            }
        };
        let next = timeout(DEADLINE, next).await;
        next.unwrap_or_else(|_| panic!("the page reported nothing; its errors: {:#?}", self.errors))
    }

    /// The errors that its console shows so far, the browser's own about failed requests too.
    pub fn errors(&mut self) -> &[String] {
        while let Ok(event) = self.events.try_recv() {
            self.take(&event);
        }
        &self.errors
    }

    /// Makes the page so many CSS pixels wide and high, as on a screen with two pixels for each.
    pub async fn resize(&self, width: u32, height: u32) {
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", screen).await;
        // As most are now: they take no room.
        self.call("Emulation.setScrollbarsHidden", json!({"hidden": true})).await;
    }

    /// Has the page see that its reader prefers dark colours, or light ones.
    pub async fn prefer_dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// A picture of what is in view, as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    async fn load(&mut self, url: &str) {
        let begun = self.call("Page.navigate", json!({"url": url})).await;
        assert_eq!(begun["errorText"], Value::Null, "{url}");
        let load = async {
            // The blank page before it may be late.
            while self.loaded != begun["loaderId"] {
                self.next_event().await;
            }
        };
        within("the page's load", load).await;
    }

    async fn evaluate(&self, expression: &str, wait: bool) -> Value {
        let params = json!({
            "expression": expression,
            "awaitPromise": wait,
            "returnByValue": wait,
        });
        let mut evaluated = self.call("Runtime.evaluate", params).await;
        let exception = &evaluated["exceptionDetails"];
        assert_eq!(exception, &Value::Null, "{expression}");
        evaluated["result"].take()
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.devtools.call(Some(&self.session), method, params).await
    }

    async fn next_event(&mut self) {
        let event = self.events.recv().await.expect("Chromium runs");
        self.take(&event);
    }

    fn take(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Page.lifecycleEvent") if params["name"] == "load" => {
                self.loaded = params["loaderId"].clone();
            }
            Some("Runtime.bindingCalled") => {
                let report = params["payload"].as_str().unwrap();
                self.reports.push_back(serde_json::from_str(report).unwrap());
            }
            Some("Runtime.exceptionThrown") => {
                panic!("a script of the page failed: {}", params["exceptionDetails"]);
            }
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                let entry = &params["entry"];
                self.errors.push(format!("{}: {}", entry["url"], entry["text"]));
            }
            _ => {}
        }
    }
}

//! Who reads the page, presses its buttons and finds fault with it.

use serde_json::{Value, json};
use umbel_e2e::{Chromium, HttpClient, Node, Tab, eventually};

/// Functions that look at the page as a reader does.
const LOOK: &str = include_str!("look.js");

/// Opens the page of a node.
pub(crate) async fn open(browser: &Chromium, node: &Node) -> Tab {
    open_as(browser, node, "127.0.0.1").await
}

/// Opens it under another name of this machine.
pub(crate) async fn open_as(browser: &Chromium, node: &Node, host: &str) -> Tab {
    let tab = browser.open(&format!("http://{host}:{}/", node.admin().port())).await;
    tab.run(LOOK).await;
    tab
}

/// What stands somewhere in the page, with plain spaces; nothing if it isn't shown.
pub(crate) async fn text(tab: &Tab, selector: &str) -> Option<String> {
    let value = tab.value(&format!("look.text({selector:?})")).await;
    value.as_str().map(str::to_owned)
}

pub(crate) async fn says(tab: &Tab, selector: &str, expected: &str) {
    says_what(tab, selector, |text| text == expected, expected).await;
}

pub(crate) async fn says_what(
    tab: &Tab,
    selector: &str,
    is: impl Fn(&str) -> bool,
    expected: &str,
) {
    let what = format!("{expected:?} at {selector}");
    eventually(&what, || async { text(tab, selector).await.filter(|text| is(text)).map(drop) })
        .await;
}

/// Waits until a rate is between two others.
pub(crate) async fn rate_is(tab: &Tab, selector: &str, low: f64, high: f64) {
    let is = |text: &str| {
        let scaled = text.strip_suffix("k/s").map(|number| (number, 1000.0));
        let plain = text.strip_suffix("/s").map(|number| (number, 1.0));
        let (number, unit) = scaled.or(plain)?;
        Some((low..=high).contains(&(number.trim().parse::<f64>().ok()? * unit)))
    };
    let expected = format!("{low} to {high} per second");
    says_what(tab, selector, |text| is(text) == Some(true), &expected).await;
}

pub(crate) async fn is_hidden(tab: &Tab, selector: &str) {
    eventually(&format!("{selector} to go"), || async {
        text(tab, selector).await.is_none().then_some(())
    })
    .await;
}

pub(crate) async fn click(tab: &Tab, selector: &str) {
    tab.value(&format!("document.querySelector({selector:?}).click()")).await;
}

pub(crate) async fn stage(node: &Node) -> Value {
    HttpClient::connect(node.admin()).await.get("/drain").await.json()["stage"].take()
}

/// Nothing failed in the page, and its policy forbade nothing. The browser itself complains of
/// answers that say no, as some shall in a test.
pub(crate) fn assert_calm(tab: &mut Tab, answers: &[&str]) {
    let is_meant = |error: &&String| answers.iter().any(|answer| error.contains(answer));
    let errors: Vec<_> = tab.errors().iter().filter(|error| !is_meant(error)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Nothing is cut, too wide or hard to read.
pub(crate) async fn assert_legible(tab: &Tab, circumstances: &str) {
    let faults = tab.value("look.faults()").await;
    assert_eq!(faults, json!([]), "{circumstances}");
}

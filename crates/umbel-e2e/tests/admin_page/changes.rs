//! What the page changes, and that it asks before.

use umbel_e2e::{Chromium, HttpClient, Tab, World};

use crate::reader::{
    assert_calm, assert_legible, click, is_hidden, open, open_as, says, says_what, stage, text,
};

/// Presses the button and agrees.
async fn press(page: &Tab, title: &str) {
    click(page, "#leave").await;
    says(page, "#ask-title", title).await;
    click(page, "#ask-yes").await;
    is_hidden(page, "#ask").await;
}

#[tokio::test]
async fn its_button_drains_the_node_but_asks_first() {
    let browser = Chromium::start().await;
    let world = World::new().environment("UMBEL_DRAIN__PAUSE_SECONDS", "600");
    let world = world.environment("UMBEL_DRAIN__DRAIN_SECONDS", "600");
    let mut world = world.environment("UMBEL_DRAIN__DEADLINE_SECONDS", "1300").start().await;
    let node = world.node(0);
    let mut session = node.json().await;
    let mut page = open(&browser, node).await;
    says(&page, "#sessions", "1").await;
    click(&page, "#leave").await;
    says(&page, "#ask-title", "Drain this node?").await;
    says_what(&page, "#ask-text", |text| text.contains("its session"), "what happens").await;
    let name = text(&page, "#node").await.unwrap();
    says_what(&page, "#ask-text", |text| text.starts_with(&name), "which node it is").await;
    assert_legible(&page, "the dialog").await;
    click(&page, "#ask-no").await;
    is_hidden(&page, "#ask").await;
    assert_eq!(stage(node).await, "serving");

    press(&page, "Drain this node?").await;
    says(&page, "[aria-current=step]", "announced").await;
    assert_eq!(stage(node).await, "announced");
    says(&page, "#ready", "Leaving").await;
    says(&page, "#left", "1").await;
    says_what(&page, "#left-time", |text| text.ends_with("of 20 min 0 s"), "the time").await;
    says(&page, "#leave", "Hurry…").await;
    press(&page, "Move all sessions now?").await;
    assert_eq!(session.json().await["op"], "moving");
    session.closed_with(1012).await;
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    says_what(&page, "#gone", |text| text.contains("was leaving"), "that it has left").await;
    assert_calm(&mut page, &["/readyz", "ERR_"]);
}

#[tokio::test]
async fn with_a_token_it_asks_for_that() {
    let browser = Chromium::start().await;
    let settings = "[admin]\ntoken = \"0123456789abcdef\"\n";
    let mut world = World::new().settings(settings).start().await;
    let mut page = open(&browser, world.node(0)).await;
    says(&page, "#sessions", "0").await;
    click(&page, "#leave").await;
    says(&page, "#ask-title", "Drain this node?").await;
    assert!(text(&page, "#token").await.is_none(), "it isn't known yet that there is one");
    click(&page, "#ask-yes").await;
    says(&page, "#ask-error", "The node wants its admin token.").await;
    for (token, error) in [
        ("0123456789abcdeX", Some("The node doesn't take this token.")),
        ("0123456789abcdef", None),
    ] {
        page.value(&format!("document.querySelector('#token').value = {token:?}")).await;
        click(&page, "#ask-yes").await;
        match error {
            Some(error) => says(&page, "#ask-error", error).await,
            None => is_hidden(&page, "#ask").await,
        }
    }
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    says_what(&page, "#gone", |text| text.contains("was leaving"), "its end").await;
    let kept = "JSON.stringify([localStorage.length, sessionStorage.length, document.cookie, \
        document.querySelector('#token').value])";
    assert_eq!(page.value(kept).await, "[0,0,\"\",\"\"]");
    assert_calm(&mut page, &["/drain", "/readyz", "ERR_"]);
}

#[tokio::test]
async fn whom_the_node_does_not_permit_learns_why() {
    let browser = Chromium::start().await;
    let world = World::new().start().await;
    let node = world.node(0);
    // The node doesn't take this name for its own machine's.
    let mut page = open_as(&browser, node, "node.localhost").await;
    says(&page, "#sessions", "0").await;
    click(&page, "#leave").await;
    says(&page, "#ask-title", "Drain this node?").await;
    click(&page, "#ask-yes").await;
    let is = |text: &str| text.contains("admin.token") && text.contains("127.0.0.1");
    says_what(&page, "#ask-error", is, "why not, and what would help").await;
    assert_eq!(stage(node).await, "serving");
    assert_calm(&mut page, &["/drain"]);
}

#[tokio::test]
async fn the_filter_of_the_log_can_be_set() {
    let browser = Chromium::start().await;
    let world = World::new().start().await;
    let node = world.node(0);
    let mut page = open(&browser, node).await;
    says(&page, "#h-log", "Log filter").await;
    let input = "document.querySelector('#log-filter').value";
    let in_force = async || {
        let answer = HttpClient::connect(node.admin()).await.get("/log").await;
        answer.json()["filter"].as_str().unwrap().to_owned()
    };
    let before = in_force().await;
    assert_eq!(page.value(input).await, before.as_str());
    page.value(&format!("{input} = 'warn,umbel::session=loud'")).await;
    click(&page, "#log-form button").await;
    let is = |text: &str| text.starts_with("Not set:") && text.contains("loud");
    says_what(&page, "#log-says", is, "what is wrong with it").await;
    assert_eq!(in_force().await, before);
    page.value(&format!("{input} = 'umbel=debug'")).await;
    click(&page, "#log-form button").await;
    says(&page, "#log-says", "Set to umbel=debug for an hour.").await;
    let answer = HttpClient::connect(node.admin()).await.get("/log").await;
    assert_eq!(answer.json()["then"]["filter"], before.as_str(), "{}", answer.text());
    assert!(in_force().await.contains("umbel=debug"));
    assert_legible(&page, "with the filter").await;
    assert_calm(&mut page, &["/log"]);
}

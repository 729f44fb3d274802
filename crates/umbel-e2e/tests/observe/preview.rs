//! The page that draws the dashboards without Grafana, in a real browser.

use umbel_e2e::{Chromium, Prometheus, World};

use crate::{clients, rules};

/// How many panels a page has drawn, how many have nothing to show, and what failed, once it is done.
const LOOK: &str = "
    new Promise(resolve => {
        const done = () => document.body.dataset.drawn ? resolve({
            drawn: document.querySelectorAll('.body svg, .body table, .body .stat, .body .bar').length,
            empty: [...document.querySelectorAll('.none')].map(box => box.textContent),
            panels: document.querySelectorAll('.panel').length,
        }) : setTimeout(done, 50);
        done();
    })";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_preview_draws_every_panel_of_both_dashboards() {
    let world = World::new().start().await;
    let node = world.node(0);
    let prometheus = Prometheus::start(&[("main", node.admin())], &rules::impatient()).await;
    let _load = clients::load(&[node.http()], 6);
    prometheus.gives("cluster:umbel_deliveries:rate1m > 0").await;
    let chromium = Chromium::start().await;
    for (dashboard, panels) in [("umbel-fleet", 47), ("umbel-node", 53)] {
        let url = format!("{}/user/preview.html?dashboard={dashboard}&minutes=2", prometheus.url());
        let mut tab = chromium.open(&url).await;
        let seen = tab.value(LOOK).await;
        assert_eq!(tab.errors(), <[String; 0]>::default());
        assert_eq!(seen["panels"], panels, "{seen}");
        let empty: Vec<_> = seen["empty"].as_array().unwrap().iter().collect();
        // What has no data says so, and nothing else: an expression that fails says why.
        assert!(empty.iter().all(|text| *text == "No data" || *text == "–"), "{empty:?}");
        // Without Redis a part of them has nothing to show.
        let drawn = seen["drawn"].as_u64().unwrap();
        assert!(drawn > panels / 2, "{seen}");
    }
}

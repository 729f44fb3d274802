//! Files of the load test: scenarios, scripts and results. An error names the place, and what was read can be written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel_loadtest::work::file::Workload;
use umbel_loadtest::work::report::{html, peers, table};
use umbel_loadtest::work::result::Run;
use umbel_loadtest::work::script::Script;

fuzz_target!(|text: &str| {
    let _ = Script::parse(text);
    if let Ok(work) = toml::from_str::<Workload>(text) {
        let written = toml::to_string(&work).expect("it was TOML");
        // Not equal to itself where a number is NaN.
        let again: Workload = toml::from_str(&written).expect("it was written");
        assert_eq!(toml::to_string(&again).expect("it was TOML"), written);
    }
    if let Ok(run) = serde_json::from_str::<Run>(text) {
        let page = html(std::slice::from_ref(&run));
        assert!(page.ends_with("</html>\n") && !page.contains("<script"));
        assert!(!table(&run).chars().any(|c| c.is_control() && c != '\n'));
    }
    let _ = peers::parse(text);
});

//! The live page at `GET /`, and what it is made of.
//!
//! It is another reader of `/metrics`, `/readyz` and `/drain`: whatever it shows can be asked for
//! without it. Its files are part of the program, and it may load nothing else.

use hyper::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use crate::http::Answer;

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! file {
    ($path:literal, $content_type:ident, $name:literal) => {
        File {
            path: $path,
            content_type: $content_type,
            text: include_str!(concat!("page/", $name)),
        }
    };
}

const FILES: [File; 11] = [
    file!("/", HTML, "index.html"),
    file!("/page/style.css", CSS, "style.css"),
    file!("/page/page.js", JAVASCRIPT, "page.js"),
    file!("/page/scrape.js", JAVASCRIPT, "scrape.js"),
    file!("/page/units.js", JAVASCRIPT, "units.js"),
    file!("/page/show.js", JAVASCRIPT, "show.js"),
    file!("/page/panels.js", JAVASCRIPT, "panels.js"),
    file!("/page/ask.js", JAVASCRIPT, "ask.js"),
    file!("/page/leave.js", JAVASCRIPT, "leave.js"),
    file!("/page/log.js", JAVASCRIPT, "log.js"),
    file!("/page/icon.svg", SVG, "icon.svg"),
];

/// Only the node's own files, in nobody's frame, and no text becomes HTML (Trusted Types), since
/// names of rules and reasons are put into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // After an upgrade the page is the new node's.
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The file at a path, if it is one of the page's.
pub(super) fn answer(path: &str) -> Option<Answer> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let mut answer = Response::new(file.text.as_bytes().to_vec().into());
    let headers: &mut HeaderMap = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text refers to between `before` and the next quote.
    fn references<'t>(text: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_file_that_it_refers_to_is_there_and_none_is_elsewhere() {
        let mut count = 0;
        for file in &FILES {
            // Links that are followed lead to other answers of the listener.
            let html = ["\" href=\"", " src=\""].map(|before| references(file.text, before));
            for path in html.into_iter().flatten() {
                assert!(answer(path).is_some(), "{path} of {}", file.path);
                count += 1;
            }
            for name in references(file.text, " from \"./") {
                assert!(answer(&format!("/page/{name}")).is_some(), "{name} of {}", file.path);
                count += 1;
            }
        }
        assert!(count > 6, "it looks for what there is");
    }

    #[test]
    fn nothing_in_it_needs_what_the_policy_forbids() {
        for file in &FILES {
            for forbidden in ["innerHTML", "<style", "style=\"", "onclick=", "eval(", "https://"] {
                assert!(!file.text.contains(forbidden), "{forbidden} in {}", file.path);
            }
        }
        assert!(answer("/page/other.js").is_none());
    }
}

//! `GET /`: what this is, and lines to copy.

use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Request, Response};

use super::Answer;

/// The page, with lines for the host under which it was asked for.
pub(super) fn answer<B>(request: &Request<B>) -> Answer {
    // HTTP/2 has it in `:authority` (RFC 9113 section 8.3.1).
    let authority = request.uri().authority().map(Authority::as_str);
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = authority.or(host).filter(|host| is_plain(host));
    let page = PAGE.replace("{host}", host.unwrap_or("127.0.0.1:8080"));
    let mut answer = Response::new(page.into_bytes().into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

/// Whether a Host header can stand in HTML as it is: names, addresses, ports.
fn is_plain(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

const PAGE: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<link rel=icon href=\"data:,\">
<title>Umbel</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }
  pre { background: #8882; padding: .8rem; overflow-x: auto; border-radius: .4rem; }
</style>
<h1>Umbel</h1>
<p>One message in, every subscriber out. This node is running.
<p>Subscribe in a terminal:
<pre>curl -N http://{host}/topics/news</pre>
<p>or in a browser's console:
<pre>new WebSocket('ws://{host}/topics/news').onmessage = m => console.log(m.data)</pre>
<p>and publish:
<pre>curl -d hello http://{host}/topics/news</pre>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_markup_is_not_put_into_the_page() {
        assert!(is_plain("[::1]:8080") && is_plain("push.example.org"));
        assert!(!is_plain("<script>") && !is_plain("a\"b"));
    }
}

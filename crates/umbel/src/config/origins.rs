//! `listen.origins`: of which pages scripts may read the node's answers.

/// The origins that are allowed; none unless set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All of them, `"*"`.
    Any,
    /// These, written as browsers send them.
    These(Box<[Box<str>]>),
}

impl Origins {
    /// Whether no origin is allowed.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::These(allowed) if allowed.is_empty())
    }

    /// Whether pages of an origin are allowed.
    pub fn allow(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::These(allowed) => allowed.iter().any(|known| known.as_bytes() == origin),
        }
    }

    /// Reads a list of origins, or `*` alone.
    pub(super) fn read(texts: &[&str]) -> Result<Self, String> {
        match texts {
            ["*"] => Ok(Self::Any),
            _ => texts.iter().map(|text| origin(text)).collect::<Result<_, _>>().map(Self::These),
        }
    }
}

impl Default for Origins {
    fn default() -> Self {
        Self::These(Box::default())
    }
}

/// Checks that an origin is as a browser would send it; another spelling would never match.
fn origin(text: &str) -> Result<Box<str>, String> {
    let fault = match text.split_once("://") {
        _ if text == "*" => "stands alone or not at all",
        None => "has no scheme",
        Some((scheme, host)) if scheme.is_empty() || host.is_empty() => "lacks scheme or host",
        Some((_, host)) if host.contains(['/', '?', '#', '@']) => {
            "has more than scheme, host and port"
        }
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "has bytes that are not printable ASCII"
        }
        _ if text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b',') => {
            "has upper case or a comma"
        }
        Some(("http", host)) if host.ends_with(":80") => "names the default port",
        Some(("https", host)) if host.ends_with(":443") => "names the default port",
        Some(_) => return Ok(text.into()),
    };
    Err(format!(
        "`{text}` {fault}; write origins as browsers send them, such as \"https://app.example.org\" or \"http://localhost:3000\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_send_them() {
        let origins = ["https://app.example.org", "http://localhost:3000", "http://[::1]:5173"];
        let read = Origins::read(&origins).unwrap();
        assert!(origins.iter().all(|origin| read.allow(origin.as_bytes())));
        assert!(!read.allow(b"http://localhost") && !read.allow(b"null"));
        assert_eq!(Origins::read(&["*"]), Ok(Origins::Any));
        assert!(Origins::read(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for (text, fault) in [
            ("localhost:3000", "has no scheme"),
            ("http://", "lacks scheme or host"),
            ("http://localhost:3000/", "has more than scheme, host and port"),
            ("https://App.example.org", "has upper case or a comma"),
            ("https://b\u{fc}cher.example", "has bytes that are not printable ASCII"),
            ("http://a:80", "names the default port"),
            ("https://a:443", "names the default port"),
            ("null", "has no scheme"),
            ("", "has no scheme"),
        ] {
            let error = Origins::read(&[text]).unwrap_err();
            assert!(error.starts_with(&format!("`{text}` {fault}; ")), "{error}");
        }
        assert!(Origins::read(&["*", "http://a"]).unwrap_err().contains("stands alone"));
    }
}

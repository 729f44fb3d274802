//! Secrets stay out of what is printed.

/// The text with the passwords of all URLs in it replaced: before a host, and as `pass=` or
/// `sentinel_password=` in the query. A secret with characters that a URL would have to encode is masked too: all to
/// the last `@` of the word.
pub(crate) fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        shown.push_str(before);
        let end = after.find([' ', '\t', '\n', '"', '`', '\'']).unwrap_or(after.len());
        let (url, following) = after.split_at(end);
        shown.push_str(&without_parameter(&without_password(url)));
        rest = following;
    }
    shown + rest
}

/// The same of a text that is one URL, whatever characters its password has.
pub(crate) fn masked_url(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            format!("{scheme}://{}", without_parameter(&without_password(rest)))
        }
        None => text.to_owned(),
    }
}

/// A URL whose query may be a secret, as TOML has it.
pub(super) fn without_query(url: &str) -> String {
    url.split_once('?').map_or_else(|| url.to_owned(), |(place, _)| format!("{place}?***\""))
}

fn without_password(url: &str) -> String {
    let secret = url.rsplit_once('@').and_then(|(user, place)| {
        let (name, _) = user.split_once(':')?;
        Some(format!("{name}:***@{place}"))
    });
    secret.unwrap_or_else(|| url.to_owned())
}

fn without_parameter(url: &str) -> String {
    let Some((place, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let shown = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if name.contains("pass") => format!("{name}=***"),
        _ => parameter.to_owned(),
    });
    format!("{place}?{}", shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_by_itself_has_no_word_ends() {
        assert_eq!(masked_url("http://me:a b'c@h:1/x"), "http://me:***@h:1/x");
        assert_eq!(masked_url("no url: x@y"), "no url: x@y");
    }

    #[test]
    fn passwords_of_urls_are_masked_and_nothing_else() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:secret@h:1", "redis://:***@h:1"),
            ("redis://me:secret@h:1/2?a=b", "redis://me:***@h:1/2?a=b"),
            ("redis://me@h", "redis://me@h"),
            ("redis://me:s/e@c?r:et@h", "redis://me:***@h"),
            (
                "`redis://me:secret@a` and \"redis://b:x@c\" fail",
                "`redis://me:***@a` and \"redis://b:***@c\" fail",
            ),
            ("[\"redis://:x@a\",\"redis://:y@b\"]", "[\"redis://:***@a\",\"redis://:***@b\"]"),
            ("unix:///run/r?db=1&user=me&pass=se&x", "unix:///run/r?db=1&user=me&pass=***&x"),
            (
                "redis+sentinel://me:s,t@a,b:1/m?sentinel_user=u&sentinel_password=x&db=1",
                "redis+sentinel://me:***@a,b:1/m?sentinel_user=u&sentinel_password=***&db=1",
            ),
            ("mail me@example.org: now", "mail me@example.org: now"),
            ("://", "://"),
            ("", ""),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}

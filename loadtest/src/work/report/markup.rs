//! HTML and SVG as they are written: names of tags and attributes are the program's own, all else is escaped.

use std::fmt::{self, Display, Write};

/// Names and values.
pub type Attributes<'a> = &'a [(&'static str, &'a dyn Display)];

/// A page as far as it is written. Elements are closed by who opened them, so they always nest.
#[derive(Debug, Default)]
pub struct Markup(String);

impl Markup {
    /// An element with what `inside` writes.
    pub fn within(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.begin(tag, attributes);
        inside(self);
        let _ = write!(self.0, "</{tag}>");
    }

    /// An element with nothing but text.
    pub fn element(&mut self, tag: &'static str, attributes: Attributes<'_>, text: impl Display) {
        self.within(tag, attributes, |page| page.text(text));
    }

    /// An element of SVG without content.
    pub fn shape(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.within(tag, attributes, |_| ());
    }

    /// An element of HTML that has neither content nor an end.
    pub fn void(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.begin(tag, attributes);
    }

    /// Text, escaped.
    pub fn text(&mut self, text: impl Display) {
        let _ = write!(Escaped(&mut self.0), "{text}");
    }

    /// The program's own text, as it is.
    pub fn verbatim(&mut self, text: &'static str) {
        self.0.push_str(text);
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }

    fn begin(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        let _ = write!(self.0, "<{tag}");
        for (name, value) in attributes {
            let _ = write!(self.0, " {name}=\"");
            let _ = write!(Escaped(&mut self.0), "{value}");
            self.0.push('"');
        }
        self.0.push('>');
    }
}

/// Writes what is safe in text and within quotes.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                _ if character.is_control() => self.0.push(char::REPLACEMENT_CHARACTER),
                // These order text around them anew, and so could make it say something else.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    self.0.push(char::REPLACEMENT_CHARACTER);
                }
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(html: &str) -> String {
        let html = html.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        html.replace("&#39;", "'").replace("&amp;", "&")
    }

    #[test]
    fn elements_nest() {
        let mut page = Markup::default();
        page.within("p", &[("id", &1)], |page| {
            page.text("a<b");
            page.void("br", &[]);
            page.element("b", &[("title", &"\"'")], '&');
        });
        let expected = "<p id=\"1\">a&lt;b<br><b title=\"&quot;&#39;\">&amp;</b></p>";
        assert_eq!(page.finish(), expected);
    }

    proptest! {
        #[test]
        fn text_stays_text_and_values_stay_values(text in "\\PC*", more in "[<>&\"'=/ a]*") {
            for text in [text, more] {
                let mut page = Markup::default();
                page.element("p", &[("title", &text)], &text);
                let html = page.finish();
                let inside = html.strip_prefix("<p title=\"").unwrap().strip_suffix("</p>").unwrap();
                let (value, content) = inside.split_once("\">").unwrap();
                for part in [value, content] {
                    prop_assert!(!part.contains(['<', '>', '"', '\'']), "{}", part);
                    let kept = plain(part);
                    prop_assert!(kept == text || kept.contains(char::REPLACEMENT_CHARACTER));
                }
            }
        }
    }
}

//! The string literals of a source file. Comments are none, nor is what attributes say.

use proc_macro2::{TokenStream, TokenTree};

/// The text of each string literal as it stands in the source, and its line.
pub(crate) fn literals(source: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    walk(source.parse().expect("Rust, since it compiled"), &mut found);
    found
}

fn walk(stream: TokenStream, found: &mut Vec<(String, usize)>) {
    let mut is_attribute = false;
    for token in stream {
        match token {
            TokenTree::Punct(sign) if sign.as_char() == '#' => {
                is_attribute = true;
                continue;
            }
            // The sign of an inner attribute.
            TokenTree::Punct(sign) if is_attribute && sign.as_char() == '!' => continue,
            TokenTree::Group(group) if !is_attribute => walk(group.stream(), found),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let body = text.strip_suffix('"').and_then(|text| text.strip_prefix('"'));
                if let Some(body) = body {
                    found.push((body.to_owned(), literal.span().start().line));
                }
            }
            _ => {}
        }
        is_attribute = false;
    }
}

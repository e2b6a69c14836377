//! The string literals of a source file. Comments are none, nor is what attributes say.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One literal.
pub(crate) struct Literal {
    /// Its text as it stands in the source.
    pub(crate) text: String,
    /// Its line.
    pub(crate) line: usize,
    /// Whether it stands in an item under `#[cfg(test)]`.
    pub(crate) is_test: bool,
}

/// All literals, in their order.
pub(crate) fn literals(source: &str) -> Vec<Literal> {
    let mut found = Vec::new();
    walk(
        source.parse().expect("Rust, since it compiled"),
        false,
        &mut found,
    );
    found
}

fn walk(stream: TokenStream, in_test: bool, found: &mut Vec<Literal>) {
    let (mut is_attribute, mut is_test) = (false, in_test);
    for token in stream {
        match token {
            TokenTree::Punct(sign) if sign.as_char() == '#' => {
                is_attribute = true;
                continue;
            }
            // The sign of an inner attribute.
            TokenTree::Punct(sign) if is_attribute && sign.as_char() == '!' => continue,
            TokenTree::Group(group) if is_attribute => {
                is_test |= group.stream().to_string().replace(' ', "") == "cfg(test)";
            }
            TokenTree::Group(group) => {
                walk(group.stream(), is_test, found);
                // The end of the item that the attribute is for, or the next `;` is.
                if group.delimiter() == Delimiter::Brace {
                    is_test = in_test;
                }
            }
            TokenTree::Punct(sign) if sign.as_char() == ';' => is_test = in_test,
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let body = text.strip_suffix('"').and_then(|text| text.strip_prefix('"'));
                if let Some(body) = body {
                    found.push(Literal {
                        text: body.to_owned(),
                        line: literal.span().start().line,
                        is_test,
                    });
                }
            }
            _ => {}
        }
        is_attribute = false;
    }
}

//! The paths that a source file names, the types that it declares, and the lints that it silences.
//!
//! Tokens, not a syntax tree: so paths inside macros count as well, and comments, strings and `#[cfg(test)]` items do
//! not.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path as it stands in the source, groups of a `use` written out.
pub(crate) struct Name {
    pub(crate) path: Vec<String>,
    pub(crate) imported: bool,
    pub(crate) line: usize,
}

#[derive(Default)]
pub(crate) struct Found {
    pub(crate) names: Vec<Name>,
    /// Each struct, enum and trait, and the line of its name.
    pub(crate) types: Vec<(String, usize)>,
    /// Lines of attributes that silence a lint and give no reason.
    pub(crate) silenced: Vec<usize>,
}

impl Found {
    pub(crate) fn read(text: &str) -> Self {
        let mut found = Self::default();
        found.walk(text.parse().expect("Rust, since it compiled"));
        found
    }

    fn walk(&mut self, stream: TokenStream) {
        let tokens: Vec<_> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at += match &tokens[at] {
                TokenTree::Punct(p) if p.as_char() == '#' => self.attribute(&tokens[at..]),
                TokenTree::Ident(word) if word == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    let end = tokens[at..].iter().position(|it| is_punct(Some(it), ';'));
                    let end = end.unwrap_or(tokens.len() - at);
                    self.import(&tokens[at + 1..at + end], &[]);
                    end
                }
                TokenTree::Ident(word) if word == "extern" && is_word(tokens.get(at + 1), "crate") => {
                    self.import(&tokens[at + 2..(at + 3).min(tokens.len())], &[]);
                    3
                }
                TokenTree::Ident(word) if word == "struct" || word == "enum" || word == "trait" => {
                    if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                        self.types.push((name.to_string(), name.span().start().line));
                    }
                    1
                }
                TokenTree::Ident(word) => {
                    let (path, length) = path_at(&tokens[at..]);
                    self.names.push(Name {
                        path,
                        imported: false,
                        line: word.span().start().line,
                    });
                    length
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream());
                    1
                }
                _ => 1,
            };
        }
    }

    /// Takes `#[…]` or `#![…]`, and the whole item after `#[cfg(test)]`.
    fn attribute(&mut self, tokens: &[TokenTree]) -> usize {
        let skip = if is_punct(tokens.get(1), '!') { 2 } else { 1 };
        let Some(TokenTree::Group(body)) = tokens.get(skip) else {
            return 1;
        };
        let text = body.stream().to_string().replace(' ', "");
        if text == "cfg(test)" && skip == 1 {
            let end = tokens.iter().position(|it| {
                is_punct(Some(it), ';')
                    || matches!(it, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
            });
            return end.map_or(tokens.len(), |it| it + 1);
        }
        if text.starts_with("doc=") {
            return skip + 1;
        }
        let silences = ["allow(", "expect("]
            .iter()
            .any(|it| text.starts_with(it) || text.contains(&format!(",{it}")));
        if silences && !text.contains("reason=\"") {
            self.silenced.push(body.span_open().start().line);
        }
        self.walk(body.stream());
        skip + 1
    }

    /// Writes out one tree of a `use`.
    fn import(&mut self, tokens: &[TokenTree], prefix: &[String]) {
        let skip = tokens.iter().take_while(|it| is_punct(Some(it), ':')).count();
        let tokens = &tokens[skip..];
        let Some(first) = tokens.first() else { return };
        let mut path = prefix.to_vec();
        let mut rest = tokens;
        if matches!(first, TokenTree::Ident(_)) {
            let (here, length) = path_at(tokens);
            path.extend(here);
            rest = &tokens[length..];
        }
        let skip = rest.iter().take_while(|it| is_punct(Some(it), ':')).count();
        if let Some(TokenTree::Group(group)) = rest.get(skip) {
            let inner: Vec<_> = group.stream().into_iter().collect();
            for tree in inner.split(|it| is_punct(Some(it), ',')) {
                self.import(tree, &path);
            }
        } else if !path.is_empty() {
            self.names.push(Name {
                path,
                imported: true,
                line: first.span().start().line,
            });
        }
    }
}

/// The path that starts here and how many tokens it takes.
fn path_at(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    let mut at = 0;
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        at += 1;
        let colons = matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':' && p.spacing() == Spacing::Joint)
            && is_punct(tokens.get(at + 1), ':');
        if !colons || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
            break;
        }
        at += 2;
    }
    (path, at)
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == sign)
}

fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(it)) if it == word)
}

//! Every loop has a bound, and says it. A worker's turn, a turn of the slow path and a change on the control side must
//! come to an end, whatever arrives meanwhile.
//!
//! The test reads the sources of the rooms that these turns lead through. A loop that the iterated values do not bound
//! (`loop`, `while`, an iterator without an end) needs a comment right above it, `// Bound: …`, which says what ends it.
//! A `for` over values that there are is bounded by them, and so is a range without an end that is zipped with them.

use std::fs;
use std::path::Path;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Stmt};

const ROOMS: [&str; 9] = ["base", "wire", "select", "count", "dpdk", "state", "forward", "control", "slow"];
/// What the comment begins with.
const BOUND: &str = "// Bound: ";

/// The loops of a source that need a bound.
struct Loops<'t> {
    lines: Vec<&'t str>,
    /// The lines where the statements begin that the walk is in.
    statements: Vec<usize>,
    /// How many there are.
    count: usize,
    /// Those without a bound: line and kind.
    without: Vec<(usize, String)>,
}

impl<'t> Loops<'t> {
    fn of(text: &'t str) -> Self {
        let source = syn::parse_file(text).unwrap_or_else(|error| panic!("{error}"));
        let mut loops = Loops { lines: text.lines().collect(), statements: vec![], count: 0, without: vec![] };
        loops.visit_file(&source);
        loops
    }

    fn note(&mut self, span: Span, kind: &str) {
        let line = span.start().line;
        let begins = [Some(line), self.statements.last().copied()];
        self.count += 1;
        if !begins.into_iter().flatten().any(|line| self.says_bound(line)) {
            self.without.push((line, kind.to_owned()));
        }
    }

    /// Whether one of the comments right above a line, which are counted from 1, says a bound.
    fn says_bound(&self, line: usize) -> bool {
        let above = self.lines[..line - 1].iter().rev().map(|line| line.trim_start());
        let mut notes = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
        notes.any(|line| line.starts_with(BOUND))
    }

    /// The arguments of a macro are no syntax tree. They are searched for words.
    fn note_tokens(&mut self, tokens: &TokenStream) {
        for token in tokens.clone() {
            match token {
                TokenTree::Ident(word) if word == "loop" || word == "while" => {
                    self.note(word.span(), "loop in a macro")
                }
                TokenTree::Group(group) => self.note_tokens(&group.stream()),
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Loops<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        self.statements.push(statement.span().start().line);
        visit::visit_stmt(self, statement);
        self.statements.pop();
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            Expr::Loop(found) => self.note(found.loop_token.span, "loop"),
            Expr::While(found) => self.note(found.while_token.span, "while"),
            Expr::ForLoop(found) if is_endless(&found.expr) => self.note(found.for_token.span, "for without an end"),
            Expr::MethodCall(call) if call.method == "cycle" || is_endless(&call.receiver) && call.method != "zip" => {
                self.note(call.method.span(), "iterator without an end");
            }
            Expr::Call(call) if makes_endless(&call.func) => self.note(call.func.span(), "iterator without an end"),
            _ => {}
        }
        visit::visit_expr(self, expression);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(&call.tokens);
    }
}

/// Whether an expression is a range without an end: `0..`.
fn is_endless(expression: &Expr) -> bool {
    match expression {
        Expr::Paren(inner) => is_endless(&inner.expr),
        Expr::Range(range) => range.end.is_none(),
        _ => false,
    }
}

/// Whether a function makes an iterator without an end of its own.
fn makes_endless(function: &Expr) -> bool {
    let Expr::Path(function) = function else { return false };
    let words: Vec<String> = function.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    let [.., module, name] = &words[..] else { return false };
    module == "iter" && ["from_fn", "repeat", "repeat_with", "successors"].contains(&name.as_str())
}

fn is_test(attributes: &[Attribute]) -> bool {
    let test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    };
    attributes.iter().any(test)
}

/// The names and texts of a folder's sources, without those of tests.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the source is readable").flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().expect("names are text"));
        if path.is_dir() && name != "tests" {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push((path.display().to_string(), fs::read_to_string(&path).expect("source is text")));
        }
    }
    found
}

#[test]
fn every_loop_says_its_bound() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut count, mut without) = (0, Vec::new());
    for (file, text) in ROOMS.iter().flat_map(|room| sources(&source.join(room))) {
        let loops = Loops::of(&text);
        count += loops.count;
        without.extend(loops.without.into_iter().map(|(line, kind)| format!("{file}:{line}: {kind}")));
    }
    assert!(without.is_empty(), "these need a comment \"{BOUND}…\" that says what ends them:\n{}", without.join("\n"));
    assert!(count >= 15, "only {count} loops are found");
}

/// Tests the functions above, on a small example.
#[test]
fn loops_without_a_bound_are_found() {
    let text = "
fn f() {
    // Bound: ten rounds.
    loop { break }
    // Each round is bound to end.
    while g() {}
    while let Some(_) = h() {}
    for i in 0..9 {}
    for i in 0.. {}
    let turns = list
        .iter()
        .cycle();
    // Bound: the list.
    let all = std::iter::from_fn(
        || { while k() {} None },
    );
    let array = std::array::from_fn(|i| i);
    let tail = &list[3..];
    (0..).map(|i| i);
    (0..).zip(list);
    assert!(loop { break true });
}
#[cfg(test)]
mod tests { fn f() { loop {} } }
";
    let loops = Loops::of(text);
    let lines: Vec<usize> = loops.without.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [6, 7, 9, 12, 15, 19, 21], "{:?}", loops.without);
    assert_eq!(loops.count, 9);
}

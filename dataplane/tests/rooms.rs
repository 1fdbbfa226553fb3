//! The rules of the rooms: which room may use which. The tests read the imports of `src/`, and fail on a forbidden
//! import and on a circle.
//!
//! A room is a folder of `src/`. Code under `#[cfg(test)]` may use everything. Comments and links in them do not count
//! as imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// Each room, and the rooms that it may use besides itself. A room may use only rooms that are listed before it.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("log", &[]),
    ("netlink", &[]),
    ("wire", &["base"]),
    ("select", &["base"]),
    ("count", &["base"]),
    ("dpdk", &["base"]),
    ("state", &["base", "wire", "select", "count"]),
    ("forward", &["base", "wire", "select", "count", "dpdk", "state"]),
    ("control", &["base", "wire", "select", "count", "state"]),
    ("commands", &["base", "control"]),
    ("health", &["base", "count", "state", "control", "commands"]),
    ("slow", &["base", "wire", "count", "state", "forward", "control", "commands", "health"]),
    ("api", &["base", "wire", "count", "state", "control", "commands", "health", "slow"]),
    ("metrics", &["base", "count", "dpdk", "control", "api"]),
    ("config", &["base", "wire", "select", "count", "dpdk", "forward", "control", "commands"]),
    (
        "daemon",
        &[
            "base", "log", "count", "dpdk", "netlink", "state", "forward", "control", "commands", "health", "slow",
            "api", "metrics", "config",
        ],
    ),
    // For tests, benches and fuzz targets: no other room may use it.
    ("testing", &["base", "wire", "count", "state", "forward", "control", "health", "slow", "api"]),
];

/// The most lines of code and comments of a file, without its tests. A longer file needs a reason.
const MOST_LINES: usize = 500;
/// The longer files, with their reasons.
const LONG: &[(&str, &str)] = &[];

/// A file of the crate: `forward/lane.rs`, `forward/mod.rs`.
type File = String;

/// An arrow: a file uses another file, by this path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: File,
    to: File,
    path: String,
}

/// The files of a crate, by their module's path: `["forward", "lane"]`.
#[derive(Default)]
struct House {
    modules: BTreeMap<Vec<String>, File>,
    texts: BTreeMap<File, String>,
}

impl House {
    fn read(folder: &Path) -> House {
        let mut house = House::default();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(current) = folders.pop() {
            for entry in fs::read_dir(&current).expect("the source is readable").flatten() {
                let path: PathBuf = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(folder).expect("it is in the folder").display().to_string();
                    house.add(name, fs::read_to_string(&path).expect("source is text"));
                }
            }
        }
        house
    }

    fn add(&mut self, file: File, text: String) {
        // `main.rs` is another crate.
        if file == "main.rs" {
            return;
        }
        let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(String::from).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        self.modules.insert(module, file.clone());
        self.texts.insert(file, text);
    }

    /// All arrows between two files, without those of tests.
    fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        let tests = self.test_files();
        for (module, file) in self.modules.iter().filter(|(_, file)| !tests.contains(*file)) {
            let source = syn::parse_file(&self.texts[file]).unwrap_or_else(|error| panic!("{file}: {error}"));
            let mut reader = Reader { module: module.clone(), modules: &self.modules, paths: BTreeSet::new() };
            reader.visit_file(&source);
            for path in reader.paths {
                let to = self.file_of(&path);
                if to != file {
                    arrows.insert(Arrow { from: file.clone(), to: to.clone(), path: path.join("::") });
                }
            }
        }
        arrows
    }

    /// The file of the module that a path leads into.
    fn file_of(&self, path: &[String]) -> &File {
        let modules = (0..=path.len()).rev().filter_map(|len| self.modules.get(&path[..len]));
        modules.into_iter().next().expect("lib.rs is the crate's root")
    }

    /// The files of modules that are declared under `#[cfg(test)]`.
    fn test_files(&self) -> BTreeSet<File> {
        let mut tests = BTreeSet::new();
        for (module, file) in &self.modules {
            let source = syn::parse_file(&self.texts[file]).unwrap_or_else(|error| panic!("{file}: {error}"));
            for item in source.items {
                let Item::Mod(item) = item else { continue };
                if is_test(&item.attrs) {
                    let below: Vec<String> = module.iter().cloned().chain([item.ident.to_string()]).collect();
                    let files = self.modules.iter().filter(|(module, _)| module.starts_with(&below));
                    tests.extend(files.map(|(_, file)| file.clone()));
                }
            }
        }
        tests
    }
}

/// Collects the paths of the crate that a file names.
struct Reader<'h> {
    module: Vec<String>,
    modules: &'h BTreeMap<Vec<String>, File>,
    paths: BTreeSet<Vec<String>>,
}

impl Reader<'_> {
    fn note(&mut self, segments: &[String]) {
        let Some((first, rest)) = segments.split_first().filter(|(_, rest)| !rest.is_empty()) else { return };
        let below: Vec<String> = self.module.iter().chain([first]).cloned().collect();
        let mut path = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            // A room's door (`mod.rs`) passes on items of the room's files.
            _ if self.modules.contains_key(&below) => below,
            _ => return,
        };
        for segment in rest {
            if segment == "super" {
                path.pop();
            } else {
                path.push(segment.clone());
            }
        }
        self.paths.insert(path);
    }

    fn note_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| -> Vec<String> { before.iter().cloned().chain([name]).collect() };
        match tree {
            UseTree::Path(path) => self.note_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) if name.ident == "self" => self.note(before),
            UseTree::Name(name) => self.note(&with(name.ident.to_string())),
            UseTree::Rename(rename) => self.note(&with(rename.ident.to_string())),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
        }
    }

    /// The arguments of a macro are no syntax tree. They are searched for paths that begin with `crate`.
    fn note_tokens(&mut self, tokens: &TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens.clone() {
            match token {
                TokenTree::Ident(word) if path.is_empty() && word == "crate" => path.push("crate".into()),
                TokenTree::Ident(word) if !path.is_empty() && colons == 2 => path.push(word.to_string()),
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                token => {
                    self.note(&std::mem::take(&mut path));
                    if let TokenTree::Group(group) = token {
                        self.note_tokens(&group.stream());
                    }
                }
            }
            colons = 0;
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(&call.tokens);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    };
    attributes.iter().any(test)
}

fn room(file: &str) -> &str {
    file.split_once('/').map_or("", |(room, _)| room)
}

/// The arrows that the rules forbid.
fn forbidden(arrows: &BTreeSet<Arrow>, rooms: &[(&str, &[&str])]) -> Vec<String> {
    let may_use =
        |from: &str, to: &str| from == to || rooms.iter().any(|(room, others)| *room == from && others.contains(&to));
    let wrong = arrows.iter().filter(|arrow| arrow.from != "lib.rs" && !may_use(room(&arrow.from), room(&arrow.to)));
    wrong.map(|arrow| format!("{} uses {} ({})", arrow.from, arrow.to, arrow.path)).collect()
}

/// Files that use each other in a circle; each circle once. A room's door (`mod.rs`) passes on items of its files, so a
/// file in the room must use the other file itself.
fn circles(arrows: &BTreeSet<Arrow>) -> Vec<Vec<File>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in arrows {
        next.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    let reached = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            for &other in next.get(file).into_iter().flatten() {
                if seen.insert(other) {
                    open.push(other);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|&file| (file, reached(file))).collect();
    let mut circles: BTreeSet<Vec<File>> = BTreeSet::new();
    for (file, others) in &reached {
        let mutual: Vec<File> = others
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|back| back.contains(file)))
            .map(ToString::to_string)
            .collect();
        if mutual.len() > 1 {
            circles.insert(mutual);
        }
    }
    circles.into_iter().collect()
}

/// Lines before the tests at the foot of a file.
fn length(text: &str) -> usize {
    text.lines().position(|line| line == "#[cfg(test)]").unwrap_or(text.lines().count())
}

fn source() -> House {
    House::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn no_room_uses_one_that_it_may_not() {
    let wrong = forbidden(&source().arrows(), ROOMS);
    assert!(wrong.is_empty(), "Arrows upwards (tests/rooms.rs has the rules):\n{}", wrong.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let circles: Vec<String> = circles(&source().arrows()).iter().map(|circle| circle.join(", ")).collect();
    assert!(circles.is_empty(), "Circles:\n{}", circles.join("\n"));
}

/// `ctl`: the library, and `shuntctl`.
#[test]
fn no_files_of_the_control_api_use_each_other_in_a_circle() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ctl/src");
    let mut library = House::read(&folder);
    library.texts.retain(|file, _| !file.starts_with("bin/"));
    library.modules.retain(|_, file| !file.starts_with("bin/"));
    let mut program = House::read(&folder.join("bin/shuntctl"));
    program.add("lib.rs".into(), fs::read_to_string(folder.join("bin/shuntctl/main.rs")).expect("it is there"));
    for house in [library, program] {
        assert!(house.arrows().len() > 20, "{:?}", house.arrows());
        let circles: Vec<String> = circles(&house.arrows()).iter().map(|circle| circle.join(", ")).collect();
        assert!(circles.is_empty(), "Circles:\n{}", circles.join("\n"));
        let long: Vec<&File> = house.texts.keys().filter(|file| length(&house.texts[*file]) > MOST_LINES).collect();
        assert!(long.is_empty(), "files with more than {MOST_LINES} lines: {long:?}");
    }
}

#[test]
fn the_rules_themselves_have_no_circle_and_no_room_is_without_one() {
    let mut below: Vec<&str> = Vec::new();
    for (room, others) in ROOMS {
        let above: Vec<&&str> = others.iter().filter(|other| !below.contains(*other)).collect();
        assert!(above.is_empty(), "{room} may use {above:?}, which come after it in the list");
        below.push(room);
    }
    let house = source();
    let rooms: BTreeSet<&str> = house.texts.keys().map(|file| room(file)).filter(|room| !room.is_empty()).collect();
    assert_eq!(rooms, below.iter().copied().collect(), "the folders of src/ and the rules");
    let alone: Vec<&File> = house.texts.keys().filter(|file| room(file).is_empty() && *file != "lib.rs").collect();
    assert!(alone.is_empty(), "files in no room: {alone:?}");
}

#[test]
fn each_room_says_what_it_is_for() {
    let house = source();
    for (room, others) in ROOMS {
        let door = &house.texts[&format!("{room}/mod.rs")];
        let says: Vec<&str> = door.lines().take_while(|line| line.starts_with("//!")).collect();
        for part in ["In:", "Out:"] {
            assert!(says.iter().any(|line| line.contains(part)), "{room}/mod.rs does not say \"{part}\"");
        }
        let uses = says.iter().skip_while(|line| !line.contains("Uses:")).take_while(|line| **line != "//!");
        let uses: String = uses.copied().collect();
        let named: BTreeSet<&str> = uses.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, others.iter().copied().collect(), "what {room}/mod.rs says after \"Uses:\", and the rules");
        let items = syn::parse_file(door).expect("source").items;
        let only_a_door = items.iter().all(|item| matches!(item, Item::Mod(_) | Item::Use(_)));
        assert!(only_a_door, "{room}/mod.rs has code: a door declares files and passes on names");
    }
}

#[test]
fn no_file_is_long_without_a_reason() {
    let house = source();
    for (file, text) in &house.texts {
        let (lines, reason) = (length(text), LONG.iter().find(|(long, _)| long == file));
        assert!(
            lines <= MOST_LINES || reason.is_some(),
            "{file} has {lines} lines without its tests: cut it, or say why"
        );
        assert!(lines > MOST_LINES || reason.is_none(), "{file} is short enough now: strike it from LONG");
    }
}

/// The first sentence of a file's documentation.
fn first_sentence(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let first = paragraph.split_once(". ").map_or(&*paragraph, |(first, _)| first);
    // Of a link, the words.
    let words: Vec<&str> = first
        .split("](")
        .enumerate()
        .map(|(number, part)| match number {
            0 => part,
            _ => part.split_once(')').map_or(part, |(_, rest)| rest),
        })
        .collect();
    let plain = words.concat().replace(['`', '[', ']'], "");
    plain.trim_end_matches('.').to_owned()
}

/// The tree of the rooms, from the top floor down, each file with the first sentence of its documentation.
fn tree(house: &House) -> String {
    let rooms = ROOMS.iter().rev().map(|(room, _)| format!("{room}/"));
    let line = |depth: usize, name: &str, file: &str| {
        format!("{:<28} {}\n", format!("{}{name}", "  ".repeat(depth)), first_sentence(&house.texts[file]))
    };
    let mut tree = String::new();
    for room in rooms {
        tree += &line(0, &room, &format!("{room}mod.rs"));
        let mut files: Vec<&File> = house.texts.keys().filter(|file| file.starts_with(&room)).collect();
        // A folder stands before what is in it.
        files.sort_by_key(|file| file.replace("/mod.rs", "/"));
        for file in files.into_iter().filter(|file| !file.contains("tests")) {
            let name = &file[room.len()..];
            match (name.rsplit_once('/'), name) {
                (None, "mod.rs") => {}
                (Some((folder, "mod.rs")), _) => tree += &line(1, &format!("{folder}/"), file),
                (Some((_, name)), _) => tree += &line(2, name, file),
                (None, name) => tree += &line(1, name, file),
            }
        }
    }
    format!("```\n{tree}```\n")
}

#[test]
fn the_architecture_has_the_arrows_that_are_allowed() {
    let rows = ROOMS.iter().rev().map(|(room, others)| vec![format!("`{room}`"), others.join(", ")]);
    dataplane::testing::docs::check(
        "docs/architecture.md",
        "arrows",
        &dataplane::testing::docs::table(&["room", "may use"], rows),
    );
}

#[test]
fn the_architecture_has_the_tree_that_there_is() {
    dataplane::testing::docs::check("docs/architecture.md", "rooms", &tree(&source()));
}

/// The facade's counters take a hash, a lock and an allocation each: workers and the slow path have plain counters of their own, which
/// each page of metrics is told anew.
#[test]
fn no_frame_is_counted_by_the_facade() {
    for (file, text) in &source().texts {
        if ["base", "wire", "select", "count", "dpdk", "state", "forward", "slow"].contains(&room(file)) {
            let code = text.lines().take(length(text)).filter(|line| !line.trim_start().starts_with("//"));
            let uses = |line: &&str| line.contains("metrics::") && !line.contains("crate::metrics::");
            let found: Vec<&str> = code.filter(uses).collect();
            assert!(found.is_empty(), "{file} uses the facade `metrics`: {found:?}");
        }
    }
}

/// Tests the functions above, on a small example.
#[test]
fn arrows_and_circles_are_found() {
    let mut house = House::default();
    for (file, text) in [
        ("lib.rs", "pub mod a; pub mod b;"),
        ("a/mod.rs", "pub mod x; pub mod y; #[cfg(test)] mod tests;"),
        ("a/x.rs", "use super::y::Y; fn f() { let _ = crate::b::z::Z; } #[cfg(test)] mod tests { use crate::c::C; }"),
        ("a/y.rs", "use crate::a::{self, x::X as Other}; m!(let q = [crate::b::z::Q]);"),
        ("a/tests/mod.rs", "use crate::d::D;"),
        ("b/mod.rs", "pub mod z; pub use z::Z;"),
        ("b/z.rs", "// crate::a::x::X is no arrow\n#[cfg(test)] use crate::a::x::X;"),
    ] {
        house.add(file.into(), text.into());
    }
    let arrows = house.arrows();
    let drawn: Vec<(&str, &str)> = arrows.iter().map(|arrow| (arrow.from.as_str(), arrow.to.as_str())).collect();
    let expected = [
        ("a/x.rs", "a/y.rs"),
        ("a/x.rs", "b/z.rs"),
        ("a/y.rs", "a/mod.rs"),
        ("a/y.rs", "a/x.rs"),
        ("a/y.rs", "b/z.rs"),
        ("b/mod.rs", "b/z.rs"),
    ];
    assert_eq!(drawn, expected);
    assert_eq!(forbidden(&arrows, &[("a", &[]), ("b", &["a"])]).len(), 2, "from a to b");
    assert!(forbidden(&arrows, &[("b", &[]), ("a", &["b"])]).is_empty());
    assert_eq!(circles(&arrows), [["a/x.rs", "a/y.rs"]]);
}

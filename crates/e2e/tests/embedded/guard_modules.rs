//! The shape inside the crates: no modules that import each other in a circle, no struct that holds everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::guard::{sources, workspace};

/// Fields of a struct at most, outside settings, metrics and data that is written or read as a whole.
const MAX_FIELDS: usize = 12;

type Module = Vec<String>;

/// The text of each module of a crate, without its tests.
fn modules(source: &Path) -> BTreeMap<Module, String> {
    let mut files = Vec::new();
    sources(source, &mut files);
    let module = |file: &Path| {
        let path = file.strip_prefix(source).unwrap().with_extension("");
        let mut parts: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            parts.pop();
        }
        parts
    };
    let text = |file: &Path| {
        let whole = std::fs::read_to_string(file).unwrap();
        whole.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
    };
    files.iter().map(|file| (module(file), text(file))).collect()
}

/// The paths that follow a word such as `crate::` in a text.
fn paths<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = Module> + 'a {
    text.match_indices(word).map(move |(at, _)| {
        let rest = &text[at + word.len()..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        rest[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    })
}

/// Which modules a module imports, other than those it lies in or that lie in it.
fn imports(of: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let parent = of.split_last().map_or(&[][..], |(_, parent)| parent);
    let named = paths(text, "crate::").chain(paths(text, "super::").map(|path| [parent, &path].concat()));
    let resolved = named.filter_map(|path| {
        let lengths = (1..=path.len()).rev();
        lengths.map(|length| path[..length].to_vec()).find(|known| all.contains_key(known))
    });
    resolved.filter(|to| !to.starts_with(of) && !of.starts_with(to)).collect()
}

/// A module from which a chain of imports leads back to itself.
fn circle(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<String>> {
    for start in graph.keys() {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(at) = open.pop() {
            for to in &graph[at] {
                if to == start {
                    return Some(vec![start.join("::"), at.join("::")]);
                }
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
    }
    None
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut count = 0;
    for folder in std::fs::read_dir(workspace().join("crates")).unwrap() {
        let source = folder.unwrap().path().join("src");
        let all = modules(&source);
        let graph = all.iter().map(|(module, text)| (module.clone(), imports(module, text, &all)));
        // The top of a crate imports everything, and is imported for names that it passes on.
        let graph: BTreeMap<Module, BTreeSet<Module>> = graph.filter(|(module, _)| !module.is_empty()).collect();
        count += graph.values().map(BTreeSet::len).sum::<usize>();
        let found = circle(&graph);
        assert_eq!(found, None, "{}: these import each other, by way of others or not", source.display());
    }
    assert!(count > 100, "imports are seen: {count}");
}

#[test]
fn a_circle_is_seen() {
    let module = |name: &str| vec![name.to_owned()];
    let all = BTreeMap::from([
        (module("a"), "use crate::b::B;".to_owned()),
        (module("b"), "use super::c::C;".to_owned()),
        (module("c"), "let x = crate::a::f();".to_owned()),
    ]);
    let graph = |all: &BTreeMap<Module, String>| {
        all.iter().map(|(module, text)| (module.clone(), imports(module, text, all))).collect()
    };
    assert!(circle(&graph(&all)).is_some());
    let mut open = all;
    open.insert(module("c"), String::new());
    assert_eq!(circle(&graph(&open)), None);
}

/// Structs with their fields: settings, metrics and data are recognised by their derives and names.
fn wide_structs(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let (mut derives, mut open): (String, Option<(String, usize)>) = (String::new(), None);
    for line in text.lines() {
        if let Some((name, fields)) = &mut open {
            if line == "}" {
                found.push((name.clone(), *fields));
                open = None;
            } else if line.starts_with("    ")
                && !line.starts_with("     ")
                && line.ends_with(',')
                && line.contains(": ")
            {
                *fields += usize::from(!line.trim_start().starts_with(['/', '#']));
            }
            continue;
        }
        if line.starts_with("#[derive") {
            line.clone_into(&mut derives);
        }
        let declared = line.split_once("struct ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        if let Some((_, rest)) = declared {
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            let is_data = ["Serialize", "Deserialize", "Args", "Parser"].iter().any(|derive| derives.contains(derive));
            if line.ends_with('{') && !is_data && !name.ends_with("Metrics") {
                open = Some((name, 0));
            }
            derives.clear();
        }
    }
    found.retain(|(_, fields)| *fields > MAX_FIELDS);
    found
}

#[test]
fn no_struct_holds_everything() {
    let mut files = Vec::new();
    sources(&workspace().join("crates"), &mut files);
    for file in files {
        let wide = wide_structs(&std::fs::read_to_string(&file).unwrap());
        assert!(wide.is_empty(), "{}: {wide:?}", file.display());
    }
    let fields: String = (0..=MAX_FIELDS).map(|number| format!("    pub f{number}: u8,\n")).collect();
    assert_eq!(wide_structs(&format!("pub struct Wide {{\n{fields}}}\n")), [("Wide".to_owned(), MAX_FIELDS + 1)]);
}

//! The documentation is complete and its links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use domain::problem::Code;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in code marks that begin the rows of all tables of a page.
fn names_in_tables(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

/// All pages, by their paths from the root.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("docs"), &mut found);
    let others = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    found.extend(others.map(|page| root().join(page)));
    found
}

/// `idem config` prints every setting with its name in the environment.
#[test]
fn every_setting_is_documented_and_every_documented_one_exists() {
    let output = Command::new(env!("CARGO_BIN_EXE_idem-under-test")).arg("config").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines = printed.lines().filter_map(|line| line.strip_prefix("# Environment: "));
    let settings: BTreeSet<String> = lines.map(|line| line.split(',').next().unwrap().to_owned()).collect();
    assert!(settings.len() > 10, "{printed}");
    assert_eq!(names_in_tables(&read("docs/reference/settings.md")), settings);
}

#[test]
fn every_problem_code_is_documented_with_its_status() {
    let page = read("docs/reference/problems.md");
    for code in Code::ALL {
        let row = format!("| `{}` | {} |", code.name(), code.http_status());
        assert!(page.contains(&row), "docs/reference/problems.md lacks {row}");
    }
    let of_items = page.split("## Errors of a request").next().unwrap();
    assert_eq!(names_in_tables(of_items).len(), Code::ALL.len());
}

/// Links to pages and files of the repository, `[text](path#part)`.
#[test]
fn every_link_leads_to_a_file() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let path = link.split('#').next().unwrap();
            let is_outside = link.contains("://") || path.is_empty() || path.contains(' ');
            if !is_outside && !page.parent().unwrap().join(path).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A page that no other leads to is not found.
#[test]
fn every_page_is_reached_from_the_table_of_contents() {
    let docs = root().join("docs");
    let contents = read("docs/README.md") + &read("docs/decisions/README.md");
    let missing: Vec<_> = pages()
        .into_iter()
        .filter(|page| page.starts_with(&docs) && !page.ends_with("docs/README.md"))
        .filter(|page| !contents.contains(page.file_name().unwrap().to_str().unwrap()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

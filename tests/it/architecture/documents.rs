//! Links between the documents.

use std::path::Path;

/// A document, or the documents in a folder, as paths from the root of the package.
pub(super) fn files(path: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if root.join(path).is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(root.join(path)).unwrap();
    let mut files: Vec<_> =
        entries.map(|entry| format!("{path}/{}", entry.unwrap().file_name().into_string().unwrap())).collect();
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files
}

/// The anchor that a heading has on the pages of a forge.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in [files("README.md"), files("CHANGELOG.md"), files("docs")].concat() {
        let text = std::fs::read_to_string(root.join(&path)).unwrap();
        let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for picture in text.split("src=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            if !root.join(&path).parent().unwrap().join(picture).is_file() {
                wrong.push(format!("{path}: {picture} does not exist"));
            }
        }
        for target in targets.filter(|target| !target.contains("://")) {
            count += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = root.join(&path).parent().unwrap().to_owned();
            let file = if file.is_empty() { root.join(&path) } else { folder.join(file) };
            let Ok(page) = std::fs::read_to_string(&file) else {
                wrong.push(format!("{path}: {target} does not exist"));
                continue;
            };
            let mut headings =
                page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
            if !heading.is_empty() && !headings.any(|found| anchor(found) == heading) {
                wrong.push(format!("{path}: {target} has no such heading"));
            }
        }
    }
    super::none("every link leads somewhere", &wrong);
    assert!(count >= 10, "only {count} links were seen");
}

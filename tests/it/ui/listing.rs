//! Compares the lists of pages with single requests.

use std::collections::BTreeSet;

use proptest::prelude::TestCaseError;
use proptest::prop_assert_eq;

use super::client::{Client, unescaped};

/// Asserts that the pages list the `readable` ones of `all` repositories, each of which has the tag `1`, and no others.
pub async fn agrees(client: &mut Client, all: &[&str], readable: &[&str]) -> Result<(), TestCaseError> {
    let expected: BTreeSet<String> = readable.iter().map(|name| (*name).to_owned()).collect();
    for name in all {
        let is_readable = readable.contains(name);
        for path in ["", "/-/untagged", "/-/history", "/-/tag/1"] {
            let page = client.get(&format!("/ui/r/{name}{path}")).await;
            prop_assert_eq!(page.status == 200, is_readable, "{}{}", name, path);
            if is_readable {
                // Layers name other repositories.
                let named = repositories(&page.text());
                prop_assert_eq!(named.difference(&expected).next(), None, "{}{}", name, path);
            }
        }
        let found = client.get(&format!("/ui/search?q={}", name.replace('/', "%2F"))).await;
        prop_assert_eq!(repositories(&found.text()).contains(*name), is_readable, "search for {}", name);
        let found = client.get(&format!("/ui/search?q={}%3A1", name.replace('/', "%2F"))).await;
        let is_found = found.text().contains(&format!("/ui/r/{name}/-/tag/1\""));
        prop_assert_eq!(is_found, is_readable, "search for {}:1", name);
    }
    for path in ["/ui/", "/ui/?sort=name", "/ui/?sort=size", "/ui/?sort=pulls"] {
        prop_assert_eq!(&repositories(&client.get(path).await.text()), &expected, "{}", path);
    }
    // Every folder, from the root on.
    let (mut shown, mut waiting) = (BTreeSet::new(), vec!["/ui/?view=tree".to_owned()]);
    while let Some(folder) = waiting.pop() {
        let page = client.get(&folder).await.text();
        shown.extend(repositories(&page));
        let below = links(&page)
            .into_iter()
            .filter(|link| link.starts_with("/ui/?view=tree&path=") && link.len() > folder.len());
        waiting.extend(below);
    }
    prop_assert_eq!(&shown, &expected, "folders");
    let digest = crate::support::content::sha256(b"shared");
    let found = client.get(&format!("/ui/search?q={digest}")).await.text();
    prop_assert_eq!(&repositories(&found), &expected, "search for a blob");
    Ok(())
}

/// The repositories that a page links.
fn repositories(page: &str) -> BTreeSet<String> {
    let names = links(page).into_iter().filter_map(|link| link.strip_prefix("/ui/r/").map(str::to_owned));
    names.map(|rest| rest.split("/-/").next().unwrap().to_owned()).collect()
}

fn links(page: &str) -> Vec<String> {
    page.split("href=\"").skip(1).map(|rest| unescaped(rest.split('"').next().unwrap())).collect()
}

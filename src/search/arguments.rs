//! The arguments of queries. Their types are those of the schema already.

use apollo_compiler::resolvers::{FieldError, ResolveInfo};
use apollo_compiler::response::{JsonMap, JsonValue};

use super::refused;
use crate::content::repository::browse::{ImageOrder, RepositoryFilter, RepositorySort, Selection};

/// The longest text that is searched for, in bytes, as in zot.
const TEXT_BYTES_MAX: usize = 256;
/// The most results of one query. A client that wants more requests pages.
const RESULTS_MAX: usize = 5_000;

/// A text argument. Empty if it is missing.
pub(super) fn text<'a>(info: &'a ResolveInfo<'_>, name: &str) -> &'a str {
    info.arguments().get(name).and_then(JsonValue::as_str).unwrap_or_default()
}

/// A list of texts. Missing ones are empty.
pub(super) fn texts(map: &JsonMap, name: &str) -> Vec<String> {
    let list = map.get(name).and_then(JsonValue::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(JsonValue::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// The requested page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: usize,
    pub(super) limit: usize,
    sort: Option<String>,
}

impl Page {
    pub(super) fn read(info: &ResolveInfo<'_>) -> Result<Self, FieldError> {
        let Some(page) = info.arguments().get("requestedPage").and_then(JsonValue::as_object) else {
            return Ok(Self { limit: RESULTS_MAX, ..Self::default() });
        };
        let number = |name: &str| {
            let number = page.get(name).and_then(JsonValue::as_i64).unwrap_or_default();
            let why = || refused(format!("requested page {name} parameter can't be negative"));
            usize::try_from(number).map_err(|_| why())
        };
        let limit = match number("limit")? {
            0 => RESULTS_MAX,
            limit => limit.min(RESULTS_MAX),
        };
        let sort = page.get("sortBy").and_then(JsonValue::as_str).map(str::to_owned);
        Ok(Self { offset: number("offset")?, limit, sort })
    }

    /// The page of repositories with a text.
    pub(super) fn selection(
        &self,
        text: Option<String>,
        usual: RepositorySort,
        filter: RepositoryFilter,
    ) -> Result<Selection, FieldError> {
        let sort = self.repository_sort(usual)?;
        Ok(Selection { text, sort, filter, offset: self.offset, limit: self.limit, is_counted: false })
    }

    /// The order of repositories.
    fn repository_sort(&self, usual: RepositorySort) -> Result<RepositorySort, FieldError> {
        Ok(match self.sort.as_deref() {
            None => usual,
            Some("RELEVANCE") => RepositorySort::Relevance,
            Some("ALPHABETIC_ASC") => RepositorySort::Name,
            Some("ALPHABETIC_DSC") => RepositorySort::NameDescending,
            Some("UPDATE_TIME") => RepositorySort::Change,
            Some("DOWNLOADS") => RepositorySort::Pulls,
            Some("STARS") => RepositorySort::Stars,
            Some(other) => return Err(refused(format!("sorting repos by '{other}' is not supported"))),
        })
    }

    /// The order of images.
    pub(super) fn image_order(&self, usual: ImageOrder) -> Result<ImageOrder, FieldError> {
        Ok(match self.sort.as_deref() {
            None => usual,
            Some("RELEVANCE" | "ALPHABETIC_ASC") => ImageOrder::Name,
            Some("ALPHABETIC_DSC") => ImageOrder::NameDescending,
            Some("UPDATE_TIME") => ImageOrder::Created,
            Some("DOWNLOADS") => ImageOrder::Pulls,
            Some(other) => return Err(refused(format!("sorting images by '{other}' is not supported"))),
        })
    }
}

/// The conditions on repositories.
pub(super) fn filter(info: &ResolveInfo<'_>) -> Result<RepositoryFilter, FieldError> {
    let Some(filter) = info.arguments().get("filter").and_then(JsonValue::as_object) else {
        return Ok(RepositoryFilter::default());
    };
    let list = |name: &str| {
        let list = texts(filter, name).into_iter().map(|text| text.trim().to_lowercase());
        let list: Vec<String> = list.filter(|text| !text.is_empty()).collect();
        if list.iter().any(|text| text.len() > TEXT_BYTES_MAX) { Err(too_long(name)) } else { Ok(list) }
    };
    let is = |name: &str| filter.get(name).and_then(JsonValue::as_bool).unwrap_or_default();
    Ok(RepositoryFilter {
        systems: list("Os")?,
        architectures: list("Arch")?,
        signed: is("HasToBeSigned"),
        starred: is("IsStarred"),
        bookmarked: is("IsBookmarked"),
    })
}

/// The searched text, in lower case and without blanks and slashes around it.
pub(super) fn searched(info: &ResolveInfo<'_>) -> Result<String, FieldError> {
    let query = text(info, "query").trim().trim_matches('/').to_lowercase();
    if query.len() > TEXT_BYTES_MAX { Err(too_long("query")) } else { Ok(query) }
}

fn too_long(name: &str) -> FieldError {
    refused(format!("max string size limit exceeded for {name} parameter. max={TEXT_BYTES_MAX}"))
}

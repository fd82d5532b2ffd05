//! [`Asset`]: the files that pages load. `build.rs` compresses and names them.

/// A file that pages load.
#[derive(Debug)]
pub(crate) struct Asset {
    /// The name, which changes with the content.
    pub(crate) name: &'static str,
    /// The path of its URL.
    pub(crate) path: &'static str,
    pub(crate) plain: &'static [u8],
    pub(crate) gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

impl Asset {
    pub(super) const STYLE: Self = STYLE;
    pub(super) const SCRIPT: Self = SCRIPT;
    pub(super) const ICON: Self = ICON;

    /// The asset of a name, with its content type.
    pub(crate) fn find(name: &str) -> Option<(Self, &'static str)> {
        let all = [
            (Self::STYLE, "text/css; charset=utf-8"),
            (Self::SCRIPT, "text/javascript; charset=utf-8"),
            (Self::ICON, "image/svg+xml"),
        ];
        all.into_iter().find(|(asset, _)| asset.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assets_of_a_page_are_small() {
        let (script, all) = (Asset::SCRIPT.plain.len(), [Asset::STYLE, Asset::SCRIPT, Asset::ICON]);
        assert!(script <= 5 * 1024, "the script has {script} bytes");
        let sent: usize = all.iter().map(|asset| asset.gzip.len()).sum();
        assert!(sent <= 25 * 1024, "the assets have {sent} compressed bytes");
    }
}

//! Ranges of bytes: of a chunk in an upload, and in the `Range` header of a request.

/// The most parts in one request (RFC 9110, 14.2 and 17.15, recommend a limit). podman requests up to 1024 parts of a
/// zstd:chunked layer.
pub const PARTS_MAX: usize = 1024;

/// The `Content-Range` of an upload chunk: `<first>-<last>`, both inclusive (distribution-spec, "Pushing a blob in
/// chunks"), with `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRange {
    first: u64,
    last: u64,
}

impl ChunkRange {
    /// Reads the value of the header. Also accepts `bytes <first>-<last>/<length or *>` of RFC 9110, which generic HTTP
    /// clients send.
    pub fn parse(value: &str) -> Result<Self, InvalidRange> {
        let range = value.trim();
        let range = range.strip_prefix("bytes ").unwrap_or(range);
        let range = range.split_once('/').map_or(range, |(range, _)| range);
        let (first, last) = range.split_once('-').ok_or(InvalidRange)?;
        let (first, last) = (number(first)?, number(last)?);
        // The position after the last byte must be a number, too. A larger number is read as `u64::MAX`.
        if first > last || last == u64::MAX { Err(InvalidRange) } else { Ok(Self { first, last }) }
    }

    /// The position of the first byte in the blob.
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The number of bytes, at least one.
    pub const fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// A part of a blob: `first <= last < size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte, inclusive.
    pub last: u64,
}

impl ByteRange {
    /// The number of bytes, at least one.
    pub const fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// The meaning of a `Range` header for content of a known size (RFC 9110, 14.1 and 14.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// The whole content: there is no range, or its unit is unknown.
    Whole,
    /// These parts, at least one, in the requested order.
    Parts(Vec<ByteRange>),
    /// No byte of the content, or an invalid range: 416.
    Unsatisfiable,
    /// More than [`PARTS_MAX`] parts: 400. After a 400, podman repeats the request with fewer parts. After a 416, it fails.
    TooMany,
}

impl RangeRequest {
    /// Reads the value of the header for content of `size` bytes.
    pub fn parse(value: &str, size: u64) -> Self {
        let Some((unit, set)) = value.split_once('=') else { return Self::Unsatisfiable };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        if set.split(',').nth(PARTS_MAX).is_some() {
            return Self::TooMany;
        }
        let mut parts = Vec::new();
        // A list may have empty elements (RFC 9110, 5.6.1.2).
        for part in set.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match Self::part(part, size) {
                Ok(Some(range)) => parts.push(range),
                Ok(None) => {}
                Err(InvalidRange) => return Self::Unsatisfiable,
            }
        }
        let asked: u128 = parts.iter().map(|part| u128::from(part.length())).sum();
        match parts.len() {
            0 => Self::Unsatisfiable,
            // Only an attacker requests overlapping parts that are larger than the whole.
            2.. if asked > u128::from(size) => Self::Whole,
            _ => Self::Parts(parts),
        }
    }

    /// Reads `<first>-<last>`, `<first>-` or `-<suffix length>`; `None` if it is beyond the end.
    fn part(text: &str, size: u64) -> Result<Option<ByteRange>, InvalidRange> {
        let (first, last) = text.split_once('-').ok_or(InvalidRange)?;
        if first.is_empty() {
            let suffix = number(last)?.min(size);
            return Ok((suffix > 0).then(|| ByteRange { first: size - suffix, last: size - 1 }));
        }
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        if first > last {
            return Err(InvalidRange);
        }
        // The last position may be beyond the end (RFC 9110, 14.1.2).
        Ok((first < size).then(|| ByteRange { first, last: last.min(size - 1) }))
    }
}

/// Reads digits. A number that is too large becomes `u64::MAX`. `str::parse` would accept a sign.
fn number(text: &str) -> Result<u64, InvalidRange> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidRange);
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// A text is not a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid range: expected the form <first>-<last>, both inclusive")]
pub struct InvalidRange;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_ranges() {
        for (text, expected) in [
            ("0-0", Some((0, 1))),
            ("0-99", Some((0, 100))),
            ("100-199", Some((100, 100))),
            ("bytes 5-9/*", Some((5, 5))),
            ("bytes 5-9/10", Some((5, 5))),
            ("5-9/10", Some((5, 5))),
            ("", None),
            ("-", None),
            ("5", None),
            ("9-5", None),
            ("-5", None),
            ("5-", None),
            ("+1-5", None),
            ("0x1-5", None),
            ("a-b", None),
            ("0-18446744073709551615", None),
            ("0-99999999999999999999", None),
            ("1-2-3", None),
        ] {
            let parsed = ChunkRange::parse(text).ok().map(|range| (range.first(), range.length()));
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn reads_of_ten_bytes() {
        let parts = |parts: &[(u64, u64)]| {
            RangeRequest::Parts(parts.iter().map(|&(first, last)| ByteRange { first, last }).collect())
        };
        for (text, expected) in [
            ("bytes=0-0", parts(&[(0, 0)])),
            ("bytes=2-5", parts(&[(2, 5)])),
            ("Bytes=2-5", parts(&[(2, 5)])),
            ("bytes=2-", parts(&[(2, 9)])),
            ("bytes=2-99", parts(&[(2, 9)])),
            ("bytes=-3", parts(&[(7, 9)])),
            ("bytes=-99", parts(&[(0, 9)])),
            ("bytes=0-99999999999999999999999", parts(&[(0, 9)])),
            ("bytes=0-18446744073709551616", parts(&[(0, 9)])),
            ("bytes=-99999999999999999999999", parts(&[(0, 9)])),
            ("bytes=99999999999999999999999-", RangeRequest::Unsatisfiable),
            ("bytes=99999999999999999999998-99999999999999999999999", RangeRequest::Unsatisfiable),
            ("bytes=0-1, 4-5,-1", parts(&[(0, 1), (4, 5), (9, 9)])),
            ("bytes=0-1,50-60", parts(&[(0, 1)])),
            ("bytes=0-1,,4-5,", parts(&[(0, 1), (4, 5)])),
            ("bytes=0-9,0-9", RangeRequest::Whole),
            ("lines=1-2", RangeRequest::Whole),
            ("bytes=10-", RangeRequest::Unsatisfiable),
            ("bytes=50-60", RangeRequest::Unsatisfiable),
            ("bytes=-0", RangeRequest::Unsatisfiable),
            ("bytes=5-2", RangeRequest::Unsatisfiable),
            ("bytes=", RangeRequest::Unsatisfiable),
            ("bytes=a-b", RangeRequest::Unsatisfiable),
            ("bytes=1", RangeRequest::Unsatisfiable),
            ("bytes", RangeRequest::Unsatisfiable),
            ("bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,0-0,1-1,2-2,3-3,4-4,5-5,6-6", RangeRequest::Whole),
        ] {
            assert_eq!(RangeRequest::parse(text, 10), expected, "{text}");
        }
        let many = |count: u64| (0..count).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
        let RangeRequest::Parts(parts) = RangeRequest::parse(&format!("bytes={}", many(1024)), 1024) else {
            panic!("1024 ranges are refused");
        };
        assert_eq!(parts.len(), 1024);
        assert_eq!(RangeRequest::parse(&format!("bytes={}", many(1025)), 2000), RangeRequest::TooMany);
        assert_eq!(RangeRequest::parse("bytes=0-,1-", u64::MAX), RangeRequest::Whole);
        assert_eq!(RangeRequest::parse("bytes=0-", 0), RangeRequest::Unsatisfiable);
        assert_eq!(RangeRequest::parse("bytes=-1", 0), RangeRequest::Unsatisfiable);
    }
}

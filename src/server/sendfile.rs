//! [`FileSocket`]: a connection that sends blobs from the page cache without copying them, by `sendfile(2)`.
//!
//! hyper has no such call: it writes bytes. So it gets bytes that are a mapping of the file. When the socket is to write
//! them, it recognises them by their address, and the kernel sends that part of the file. The mapping serves as an
//! address only, so its pages are never loaded. If the kernel refuses `sendfile`, the bytes of the mapping are written.
//! If a file cannot be mapped, it is read and copied.
//!
//! A thread that serves connections should not wait for a disk. So before each megabyte it looks for the last byte of each
//! half in the page cache. If one is missing, another thread loads the megabyte first. A smaller hole between cached pages is
//! not found, and `sendfile` waits until it has read that hole. Requests for small ranges of a blob make such holes. They are
//! accepted, because the sending of a megabyte takes 140 µs. Looking at every page of it by `mincore` takes 20 to 45 µs, and at
//! every 128 KiB 10 µs, which was 0.03 of 0.23 s of processor time for a GB.

use std::fs;
use std::future::Future as _;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::task::JoinHandle;

use super::forward::forward;
use super::socket::Socket;
use crate::http::{Body, FilePart};
use crate::kit::log_limit::LogLimit;

/// The smallest part that is mapped. Reading and copying a smaller one costs less.
const MAPPED_BYTES_MIN: u64 = 64 * 1024;
/// The most bytes that hyper gets at once.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// The most bytes that one call sends, and that are loaded into the page cache at once.
const SEND_BYTES: usize = 1024 * 1024;
/// The most bytes that one read loads.
const LOAD_BYTES: usize = 256 * 1024;
/// The distance of the bytes that are looked for in the page cache. Each look takes about a microsecond.
const PROBE_BYTES: usize = 512 * 1024;
/// How long a part is taken to stay in the page cache.
const CACHED_TIME: Duration = Duration::from_secs(1);

/// The mapped parts of files that a connection is sending.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    list: Arc<Mutex<Vec<Window>>>,
    /// Limits the warnings about files that could not be mapped. All connections share it.
    unmapped: Arc<LogLimit>,
}

/// A part of a file, and the address it is mapped at.
#[derive(Clone, Debug)]
struct Window {
    address: usize,
    length: usize,
    part: FilePart,
}

/// A mapping that stays in the list of its connection until it is dropped.
#[derive(Debug)]
struct Mapping {
    map: Mmap,
    windows: Windows,
}

impl Windows {
    pub(super) fn new(unmapped: Arc<LogLimit>) -> Self {
        Self { list: Arc::default(), unmapped }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Window>> {
        self.list.lock()
    }

    /// Takes the next part of a body as mapped bytes, if it is a large enough part of a file. A [`FileSocket`] with the
    /// same windows recognises them. If the file cannot be mapped, the part stays in the body, which can still read it.
    pub(super) fn next(&self, body: &mut Body) -> Option<Bytes> {
        let part = body.next_file(MAPPED_BYTES_MIN, WINDOW_BYTES)?;
        let length = part.length;
        match self.map(part) {
            Ok(mapped) => {
                body.skip_file(length);
                Some(mapped)
            }
            Err(error) => {
                if let Some(count) = self.unmapped.pass() {
                    tracing::warn!(
                        %error,
                        count,
                        "blobs could not be mapped, so they are copied: raise the limit of the address space, or \
                         vm.max_map_count"
                    );
                }
                None
            }
        }
    }

    #[expect(unsafe_code, reason = "a mapping is unsafe because other programs may change the file")]
    fn map(&self, part: FilePart) -> io::Result<Bytes> {
        let length = usize::try_from(part.length).map_err(io::Error::other)?;
        // SAFETY: the registry never changes a blob in place. These bytes are read only where the kernel refuses
        // `sendfile`. If another program truncates the file at that moment, a signal ends the process, as with every
        // mapped file.
        let map = unsafe { MmapOptions::new().offset(part.offset).len(length).map(&*part.file) }?;
        let address = map.as_ptr().addr();
        self.lock().push(Window { address, length, part });
        Ok(Bytes::from_owner(Mapping { map, windows: self.clone() }))
    }

    /// Returns the part of a file that is mapped at these bytes.
    fn find(&self, bytes: &[u8]) -> Option<FilePart> {
        let address = bytes.as_ptr().addr();
        let windows = self.lock();
        let window = windows.iter().find(|window| {
            let begin = address.checked_sub(window.address);
            begin.is_some_and(|begin| begin + bytes.len() <= window.length)
        })?;
        let offset = window.part.offset + (address - window.address) as u64;
        Some(FilePart { file: Arc::clone(&window.part.file), offset, length: bytes.len() as u64 })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let address = self.map.as_ptr().addr();
        self.windows.lock().retain(|window| window.address != address);
    }
}

/// A socket that sends the bytes of [`Windows`] from their files.
#[derive(Debug)]
pub(super) struct FileSocket {
    socket: Socket,
    windows: Windows,
    /// Loads a part into the page cache.
    loading: Option<JoinHandle<io::Result<()>>>,
    /// The next bytes that were found in the page cache, or loaded.
    cached: Option<Cached>,
    /// Whether the kernel refuses to send from these files.
    is_refused: bool,
}

/// The next bytes to send, which were in the page cache. They are sent without another check until `until`.
#[derive(Clone, Copy, Debug)]
struct Cached {
    bytes: usize,
    until: Instant,
}

impl Cached {
    fn now(bytes: usize) -> Self {
        Self { bytes, until: Instant::now() + CACHED_TIME }
    }

    fn is_valid(self) -> bool {
        self.bytes > 0 && Instant::now() < self.until
    }
}

impl FileSocket {
    pub(super) fn new(socket: Socket, windows: Windows) -> Self {
        Self { socket, windows, loading: None, cached: None, is_refused: false }
    }

    /// Sends the beginning of a part of a file.
    fn poll_send(&mut self, context: &mut Context<'_>, part: &FilePart) -> Poll<io::Result<usize>> {
        let count = usize::try_from(part.length).map_or(SEND_BYTES, |length| length.min(SEND_BYTES));
        loop {
            if let Some(loading) = &mut self.loading {
                let loaded = ready!(Pin::new(loading).poll(context));
                self.loading = None;
                loaded.map_err(io::Error::other)??;
                self.cached = Some(Cached::now(count));
            }
            ready!(self.socket.poll_write_ready(context))?;
            let cached = match self.cached.filter(|cached| cached.is_valid()) {
                Some(cached) => cached,
                None if is_cached(part, count) => *self.cached.insert(Cached::now(count)),
                None => {
                    let part = part.clone();
                    self.loading = Some(tokio::task::spawn_blocking(move || load(&part, count)));
                    continue;
                }
            };
            let (mut offset, most) = (part.offset, count.min(cached.bytes));
            let sent = self
                .socket
                .try_io(Interest::WRITABLE, || Ok(sendfile(&self.socket, &*part.file, Some(&mut offset), most)?));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // hyper ends the connection, so the client notices that the body is incomplete.
                Ok(0) => {
                    log_short_file(part);
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                result => {
                    let sent = result.as_ref().map_or(0, |sent| *sent);
                    self.cached = Some(Cached { bytes: cached.bytes.saturating_sub(sent), ..cached });
                    return Poll::Ready(result);
                }
            }
        }
    }
}

/// Logs that the file of a blob ends before a part of it. The path comes from the system, and is empty without `/proc`.
fn log_short_file(part: &FilePart) {
    let path = fs::read_link(format!("/proc/self/fd/{}", part.file.as_raw_fd())).unwrap_or_default();
    tracing::error!(file = %path.display(), offset = part.offset, "the file of a blob is shorter than expected");
}

/// Whether the beginning of a part is in the page cache, as far as a byte of each piece shows it. Returns true if the
/// system cannot tell.
fn is_cached(part: &FilePart, count: usize) -> bool {
    (PROBE_BYTES..count).step_by(PROBE_BYTES).chain([count]).all(|end| {
        let last = part.offset + end as u64 - 1;
        let found = preadv2(&*part.file, &mut [IoSliceMut::new(&mut [0])], last, ReadWriteFlags::NOWAIT);
        found != Err(Errno::AGAIN)
    })
}

/// Loads the beginning of a part into the page cache. Blocks.
///
/// It reads and discards the bytes. Sequential reads fill the page cache in large pieces. Advice alone fills it in single
/// pages, which cost a third more each time they are sent.
fn load(part: &FilePart, count: usize) -> io::Result<()> {
    // The kernel reads ahead. If it ignores the advice, loading only takes longer.
    let _ = fadvise(&*part.file, 0, None, Advice::Sequential);
    let mut scratch = vec![0; LOAD_BYTES.min(count)];
    let mut done = 0;
    while done < count {
        let piece = scratch.len().min(count - done);
        match part.file.read_at(&mut scratch[..piece], part.offset + done as u64)? {
            // The file has been truncated. Sending reports it.
            0 => break,
            read => done += read,
        }
    }
    Ok(())
}

impl AsyncRead for FileSocket {
    forward!(socket: poll_read);
}

impl AsyncWrite for FileSocket {
    forward!(socket: poll_flush, poll_shutdown);

    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().position(|part| !part.is_empty()).unwrap_or(parts.len());
        let parts = &parts[first..];
        let find = |(at, part): (usize, &IoSlice<'_>)| Some((at, self.windows.find(part)?));
        let found = if self.is_refused { None } else { parts.iter().enumerate().find_map(find) };
        let Some((at, part)) = found else {
            return Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        };
        if at > 0 {
            return Pin::new(&mut self.socket).poll_write_vectored(context, &parts[..at]);
        }
        match ready!(self.poll_send(context, &part)) {
            Err(error) if matches!(error.raw_os_error(), Some(code) if is_refusal(code)) => {
                self.is_refused = true;
                Pin::new(&mut self.socket).poll_write_vectored(context, &parts[..1])
            }
            result => Poll::Ready(result),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Whether the error means that the kernel cannot send from this file system, or at all.
fn is_refusal(code: i32) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].iter().any(|refusal| refusal.raw_os_error() == code)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::oci::ByteRange;

    #[tokio::test]
    async fn a_file_that_cannot_be_mapped_is_read() {
        // Random numbers can be read, and cannot be mapped.
        let file = Arc::new(File::open("/dev/urandom").unwrap());
        let length = 2 * MAPPED_BYTES_MIN;
        let mut body = Body::empty();
        body.push_file(&file, ByteRange { first: 0, last: length - 1 });
        let unmapped = Arc::new(LogLimit::default());
        assert!(Windows::new(Arc::clone(&unmapped)).next(&mut body).is_none());
        assert_eq!(unmapped.pass(), None, "the warning was logged");
        assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, length);
    }

    #[test]
    fn a_hole_before_cached_pages_is_found() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; SEND_BYTES]).unwrap();
        file.sync_all().unwrap();
        let part = FilePart { file: Arc::new(file), offset: 0, length: SEND_BYTES as u64 };
        assert!(is_cached(&part, SEND_BYTES));
        // Reading a byte then loads one page.
        for advice in [Advice::DontNeed, Advice::Random] {
            fadvise(&*part.file, 0, None, advice).unwrap();
        }
        // Looking for a byte loads its page, so this is not one of those that are looked for below.
        if is_cached(&part, 1) {
            eprintln!("SKIPPED: files of this system are always in memory");
            return;
        }
        part.file.read_exact_at(&mut [0], part.length - 1).unwrap();
        assert!(!is_cached(&part, SEND_BYTES));
        load(&part, SEND_BYTES).unwrap();
        assert!(is_cached(&part, SEND_BYTES));
    }
}

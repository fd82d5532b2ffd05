//! [`FileSocket`]: a connection on which blobs go from the page cache to the socket without a copy, by
//! `sendfile(2)`.
//!
//! hyper knows no such call: it has bytes, and writes them. So it is given bytes that are a mapping of the file, and
//! the socket, when it is to write them, sees by their address that they are, and has the kernel send that part of
//! the file. The mapping is only an address: its pages are never touched, and so cost nothing. Where the kernel
//! refuses, they are touched, and what is sent is the same.
//!
//! What must hold: a thread that serves connections does not wait for a disk. What is not in the page cache is
//! brought there by another thread first.

use std::future::Future as _;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::http::{Body, FilePart};

/// A part that is smaller is read and copied: that costs less than a mapping.
const LEAST_BYTES: u64 = 64 * 1024;
/// As much is handed to hyper at once: what it has counts as sent, also if the client goes away meanwhile.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// As much is sent by one call, and is brought into the page cache at once.
const SEND_BYTES: usize = 1024 * 1024;
/// As much of it by one read.
const WARM_BYTES: usize = 256 * 1024;

/// The windows that a connection is sending at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows(Arc<Mutex<Vec<Window>>>);

/// A part of a file, and the address it is mapped at.
#[derive(Clone, Debug)]
struct Window {
    address: usize,
    length: usize,
    part: FilePart,
}

/// A mapping that is known to its connection for as long as it exists.
#[derive(Debug)]
struct Mapping {
    map: Mmap,
    windows: Windows,
}

impl Windows {
    fn lock(&self) -> MutexGuard<'_, Vec<Window>> {
        self.0.lock()
    }

    /// The next part of a body that is worth it, as bytes that a [`FileSocket`] with these windows recognises.
    pub(super) fn next(&self, body: &mut Body) -> Option<io::Result<Bytes>> {
        let part = body.take_file(LEAST_BYTES, WINDOW_BYTES)?;
        Some(self.map(part))
    }

    #[expect(
        unsafe_code,
        reason = "a mapping is unsafe since others may change the file; nobody but the kernel reads it"
    )]
    fn map(&self, part: FilePart) -> io::Result<Bytes> {
        let length = usize::try_from(part.length).map_err(io::Error::other)?;
        // SAFETY: blobs are never changed in place by the registry, and these bytes are only looked at where
        // `sendfile` is refused. If somebody else truncates a blob at that moment, the process gets a signal and
        // ends, as with every mapped file.
        let map = unsafe { MmapOptions::new().offset(part.offset).len(length).map(&*part.file) }?;
        let address = map.as_ptr().addr();
        self.lock().push(Window { address, length, part });
        Ok(Bytes::from_owner(Mapping { map, windows: self.clone() }))
    }

    /// The part of a file that these bytes are.
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

/// A socket that sends what lies in [`Windows`] from its file.
#[derive(Debug)]
pub(super) struct FileSocket {
    socket: TcpStream,
    windows: Windows,
    /// What is being brought into the page cache.
    warming: Option<JoinHandle<io::Result<()>>>,
    /// A part that was brought there just now is sent, whether or not it is there still.
    is_warm: bool,
    /// The kernel does not send from these files.
    is_refused: bool,
}

impl FileSocket {
    pub(super) fn new(socket: TcpStream, windows: Windows) -> Self {
        Self { socket, windows, warming: None, is_warm: false, is_refused: false }
    }

    /// Sends the beginning of a part of a file.
    fn poll_send(&mut self, context: &mut Context<'_>, part: &FilePart) -> Poll<io::Result<usize>> {
        let count = usize::try_from(part.length).map_or(SEND_BYTES, |length| length.min(SEND_BYTES));
        loop {
            if let Some(warming) = &mut self.warming {
                let warmed = ready!(Pin::new(warming).poll(context));
                self.warming = None;
                self.is_warm = true;
                warmed.map_err(io::Error::other)??;
            }
            ready!(self.socket.poll_write_ready(context))?;
            if !self.is_warm && !is_cached(part, count) {
                let part = part.clone();
                self.warming = Some(tokio::task::spawn_blocking(move || warm(&part, count)));
                continue;
            }
            let mut offset = part.offset;
            let sent = self
                .socket
                .try_io(Interest::WRITABLE, || Ok(sendfile(&self.socket, &*part.file, Some(&mut offset), count)?));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // hyper ends the connection, and so the client learns that the body is not whole.
                Ok(0) => {
                    tracing::error!("a blob could not be read to its end: its file has been truncated");
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                result => {
                    self.is_warm = false;
                    return Poll::Ready(result);
                }
            }
        }
    }
}

/// Whether the end of a part is in memory, as far as the system says.
fn is_cached(part: &FilePart, count: usize) -> bool {
    let last = part.offset + count as u64 - 1;
    let found = preadv2(&*part.file, &mut [IoSliceMut::new(&mut [0])], last, ReadWriteFlags::NOWAIT);
    found != Err(Errno::AGAIN)
}

/// Brings the beginning of a part into memory. Blocks.
///
/// By reading, though nobody looks at the bytes: the page cache keeps what is read one after another in large pieces,
/// and what it is only asked for in single pages, which cost a third more whenever they are sent.
fn warm(part: &FilePart, count: usize) -> io::Result<()> {
    // What comes next is read meanwhile. Advice that is not taken costs time alone.
    let _ = fadvise(&*part.file, 0, None, Advice::Sequential);
    let mut scratch = vec![0; WARM_BYTES.min(count)];
    let mut done = 0;
    while done < count {
        let piece = scratch.len().min(count - done);
        match part.file.read_at(&mut scratch[..piece], part.offset + done as u64)? {
            // A file that has been truncated: sending says so.
            0 => break,
            read => done += read,
        }
    }
    Ok(())
}

impl AsyncRead for FileSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for FileSocket {
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

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// What the kernel says where it cannot send from a file system, or at all.
fn is_refusal(code: i32) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].iter().any(|refusal| refusal.raw_os_error() == code)
}

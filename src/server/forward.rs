//! [`forward`]: writes the methods of a stream that only call the stream inside it.

/// Writes the named methods of `AsyncRead` or `AsyncWrite`. Each calls the same method of the field `$stream`.
macro_rules! forward {
    ($stream:ident: $($method:ident),+) => { $(forward!(@ $method $stream);)+ };
    (@ poll_read $stream:ident) => {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.$stream).poll_read(context, buffer)
        }
    };
    (@ poll_write $stream:ident) => {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.$stream).poll_write(context, bytes)
        }
    };
    (@ poll_write_vectored $stream:ident) => {
        fn poll_write_vectored(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            parts: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.$stream).poll_write_vectored(context, parts)
        }
    };
    (@ is_write_vectored $stream:ident) => {
        fn is_write_vectored(&self) -> bool {
            self.$stream.is_write_vectored()
        }
    };
    (@ $poll:ident $stream:ident) => {
        fn $poll(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.$stream).$poll(context)
        }
    };
}

pub(super) use forward;

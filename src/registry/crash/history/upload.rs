//! Steps with uploads.

use bytes::Bytes;

use super::{Client, Staged};
use crate::oci::{Algorithm, Digest, UploadId};
use crate::registry::crash::block_on;

impl Client {
    fn start(&mut self, name: &str, content: Bytes) -> UploadId {
        let id = self.repository(name).start_upload(Algorithm::Sha256).unwrap();
        self.uploads.insert(id, Staged { name: name.parse().unwrap(), bytes: Vec::new(), content });
        self.note(format!("start an upload in {name}"));
        id
    }

    /// Sends at most `most` bytes.
    fn send(&mut self, id: UploadId, most: usize) {
        let staged = self.uploads.get_mut(&id).unwrap();
        let from = staged.bytes.len();
        let part = staged.content.slice(from..(from + most).min(staged.content.len()));
        let mut upload = block_on(self.stores.repository(&staged.name).upload(id)).unwrap();
        staged.bytes.extend_from_slice(&part);
        // In two pieces, as from a socket.
        let half = part.len() / 2;
        upload.append(&[part.slice(..half), part.slice(half..)]).unwrap();
        drop(upload);
        self.note("send a chunk".to_owned());
    }

    fn finish(&mut self, id: UploadId) {
        let most = self.uploads[&id].content.len() - self.uploads[&id].bytes.len();
        if most > 0 {
            self.send(id, most);
        }
        let staged = self.uploads.remove(&id).unwrap();
        let digest = Digest::of(Algorithm::Sha256, &staged.content);
        let mut upload = block_on(self.stores.repository(&staged.name).upload(id)).unwrap();
        upload.verify(digest).unwrap();
        upload.finish(digest).unwrap();
        self.known.insert(digest, staged.content);
        self.contents.entry(staged.name.to_string()).or_default().blobs.insert(digest);
        self.note(format!("finish {digest} in {}", staged.name));
    }

    pub(super) fn push_blob(&mut self) -> bool {
        let (name, content) = (self.any_name(), self.content());
        let id = self.start(name, content);
        for _ in 0..self.random.below(3) {
            let most = self.random.below(3000);
            self.send(id, most);
        }
        self.finish(id);
        true
    }

    pub(super) fn leave_upload(&mut self) -> bool {
        let (name, content) = (self.any_name(), self.content());
        let id = self.start(name, content);
        let most = self.random.below(2000);
        self.send(id, most);
        true
    }

    pub(super) fn continue_upload(&mut self) -> bool {
        let Some(id) = self.any_upload() else { return false };
        self.send(id, 700);
        true
    }

    pub(super) fn finish_upload(&mut self) -> bool {
        let Some(id) = self.any_upload() else { return false };
        self.finish(id);
        true
    }

    pub(super) fn cancel_upload(&mut self) -> bool {
        let Some(id) = self.any_upload() else { return false };
        let staged = self.uploads.remove(&id).unwrap();
        block_on(self.stores.repository(&staged.name).upload(id)).unwrap().cancel().unwrap();
        self.note("cancel an upload".to_owned());
        true
    }
}

//! The pages: what they show, their templates, and their style, script and icon.
//!
//! A page is a struct with the values that it shows, and a template under `templates/`. Values are formatted when the
//! struct is made: times, sizes and digests are the types of [`format`](mod@format). Knows no request, no row and no HTTP
//! status. Invariants: every text is escaped by its template, and nothing but the types of this module is marked as
//! markup. No page has a script or a style of its own, so that the policy of the pages can forbid them.

mod account;
mod admin;
mod asset;
mod build_log;
mod confirm;
mod format;
mod layout;
mod manifest;
mod markdown;
mod message;
mod mirrors;
mod part;
mod pull;
mod repository;
mod repository_list;
mod sign_in;

pub(crate) use account::*;
pub(crate) use admin::*;
pub(crate) use asset::Asset;
pub(crate) use build_log::Instruction;
pub(crate) use confirm::{Confirm, Secret};
pub(crate) use format::{Bytes, ShortDigest, Time, program, sentence};
pub(crate) use layout::{Layout, Menu, MenuEntry, Notice, User};
pub(crate) use manifest::{
    ChartView, DeletePage, FileEntry, ImageView, LayerEntry, Linked, ManifestPage, PlatformLink, ReferrerEntry,
    RestorePage, StepEntry,
};
pub(crate) use markdown::{Markdown, summary};
pub(crate) use message::{ConfirmProgram, Message, Standalone, Style};
pub(crate) use mirrors::{MirrorsPage, SyncProgress, SyncResult, UpstreamRow};
pub(crate) use part::{Badge, Copy, Crumb, Icon, NextPage, Tone};
pub(crate) use pull::{PullCommand, PullKind, PullTarget, pull_commands};
pub(crate) use repository::{
    DeletedEntry, DeletedList, DescriptionForm, Figure, FigureValue, HistoryRow, RepositoryFrame, RepositorySettings,
    RestoreManifestPage, RoleEntry, Source, TagEntry, TagHistory, TagRetention, TagsPage, UntaggedEntry, UntaggedList,
};
pub(crate) use repository_list::{FoundEntry, ListedRepository, RepositoryList, SearchResults};
pub(crate) use sign_in::{ConfirmPassword, ProviderLink, SignIn, SignOut, SignedOut};

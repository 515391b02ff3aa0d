//! The succeeded builds of an upstream job in the order in which a requirement tries them, page by page.

use crate::ids::{JobId, ResourceId};
use crate::resolve::history::{BuildOrder, BuildPage, Direction, History, SucceededBuild};
use crate::version::VersionDigest;

/// The first page is small, because most often the first build will do; each further page is twice as large.
const FIRST_PAGE: usize = 4;
/// Pages stay this small so that little is fetched in vain.
const LARGEST_PAGE: usize = 256;

/// Builds that are offered for one requirement (reference, section 3.4, "builds offered for a passed job").
pub(super) struct Offered {
    job: JobId,
    /// Where the next page starts; `None`: there is none.
    next: Option<Direction>,
    /// While builds newer than the last used one are offered, that one.
    last_used: Option<BuildOrder>,
    /// What builds must have; those newer than the last used one need not.
    having: Vec<(ResourceId, VersionDigest)>,
    page: std::vec::IntoIter<SucceededBuild>,
    page_size: usize,
    tried: usize,
}

impl Offered {
    /// All builds that have `having`, the newest first.
    pub(super) fn newest_first(job: JobId, having: Vec<(ResourceId, VersionDigest)>) -> Offered {
        Offered {
            job,
            next: Some(Direction::Descending(None)),
            last_used: None,
            having,
            page: Vec::new().into_iter(),
            page_size: FIRST_PAGE,
            tried: 0,
        }
    }

    /// For `version: every`: the builds newer than the last used one, oldest first and whatever they have; then
    /// the last used one and those older, newest first, that have `having`.
    pub(super) fn from_last_used(
        job: JobId,
        last_used: BuildOrder,
        having: Vec<(ResourceId, VersionDigest)>,
    ) -> Offered {
        Offered {
            next: Some(Direction::Ascending(last_used.newer_bound())),
            last_used: Some(last_used),
            ..Offered::newest_first(job, having)
        }
    }

    /// How many builds were offered so far.
    pub(super) fn tried(&self) -> usize {
        self.tried
    }

    /// The next build, and whether there is a next for `every`: said of each build that is newer than the last used
    /// one, of the last of them too (reference, section 3.4: it over-approximates).
    pub(super) fn next<H: History>(
        &mut self,
        history: &mut H,
        resources: &[ResourceId],
    ) -> Result<Option<(SucceededBuild, bool)>, H::Error> {
        loop {
            if let Some(build) = self.page.next() {
                self.tried += 1;
                return Ok(Some((build, self.last_used.is_some())));
            }
            match (self.next.take(), self.last_used) {
                (Some(direction), _) => self.fetch(direction, history, resources)?,
                (None, Some(last_used)) => {
                    self.last_used = None;
                    self.fetch(Direction::Descending(Some(last_used.older_bound())), history, resources)?;
                }
                (None, None) => return Ok(None),
            }
        }
    }

    fn fetch<H: History>(
        &mut self,
        direction: Direction,
        history: &mut H,
        resources: &[ResourceId],
    ) -> Result<(), H::Error> {
        let having = if self.last_used.is_some() { &[] } else { &self.having[..] };
        let limit = self.page_size;
        let page = history.succeeded_builds(BuildPage { job: self.job, direction, having, resources, limit })?;
        if let Some(last) = page.last().filter(|_| page.len() >= limit) {
            self.next = Some(match direction {
                Direction::Ascending(_) => Direction::Ascending(last.order),
                Direction::Descending(_) => Direction::Descending(Some(last.order)),
            });
        }
        self.page = page.into_iter();
        self.page_size = (limit * 2).min(LARGEST_PAGE);
        Ok(())
    }
}

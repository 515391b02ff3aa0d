//! The succeeded builds of an upstream job in the order in which a requirement tries them, page by page.

use super::Seen;
use crate::ids::{BuildId, JobId, ResourceId};
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
    /// With `version: every`, the build that was used last.
    last_used: Option<BuildOrder>,
    /// Whether builds newer than the last used one are offered, the first of all.
    is_newer: bool,
    having: Having,
    page: std::vec::IntoIter<SucceededBuild>,
    page_size: usize,
    tried: usize,
}

/// What a requirement had when it ran out of builds.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exhausted {
    /// How many builds were tried.
    pub(super) tried: usize,
    /// What they had to have.
    pub(super) having: Having,
    /// With `version: every`, the build that was used last.
    pub(super) last_used: Option<BuildId>,
}

/// The versions, by input of the group, that builds must have. Builds newer than the last used one need not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Having(pub(super) Vec<(usize, Seen)>);

impl Having {
    /// As a history wants them.
    fn pairs(&self) -> Vec<(ResourceId, &VersionDigest)> {
        self.0.iter().map(|(_, seen)| (seen.resource(), seen.digest())).collect()
    }
}

impl Offered {
    /// All builds that have `having`, the newest first.
    pub(super) fn newest_first(job: JobId, having: Having) -> Offered {
        Offered {
            job,
            next: Some(Direction::Descending(None)),
            last_used: None,
            is_newer: false,
            having,
            page: Vec::new().into_iter(),
            page_size: FIRST_PAGE,
            tried: 0,
        }
    }

    /// For `version: every`: the builds newer than the last used one, oldest first and whatever they have; then
    /// the last used one and those older, newest first, that have `having`.
    pub(super) fn from_last_used(job: JobId, last_used: BuildOrder, having: Having) -> Offered {
        Offered {
            next: Some(Direction::Ascending(last_used.newer_bound())),
            last_used: Some(last_used),
            is_newer: true,
            ..Offered::newest_first(job, having)
        }
    }

    /// No builds, because none of the job has `having`.
    pub(super) fn none(job: JobId, having: Having) -> Offered {
        Offered { next: None, ..Offered::newest_first(job, having) }
    }

    /// Fetches the first pages of several requirements at once; all of them are [`Offered::newest_first`].
    pub(super) fn fetch_first<H: History>(
        offers: &mut [Offered],
        history: &mut H,
        resources: &[ResourceId],
    ) -> Result<(), H::Error> {
        let direction = Direction::Descending(None);
        let having: Vec<_> = offers.iter().map(|offered| offered.having.pairs()).collect();
        let requests: Vec<BuildPage<'_>> = offers
            .iter()
            .zip(&having)
            .map(|(offered, having)| BuildPage { job: offered.job, direction, having, resources, limit: FIRST_PAGE })
            .collect();
        let pages = history.succeeded_builds(&requests)?;
        for (offered, page) in offers.iter_mut().zip(pages) {
            offered.turn_to(page, direction);
        }
        Ok(())
    }

    /// What there is to say once no build is left.
    pub(super) fn into_exhausted(self) -> Exhausted {
        Exhausted { tried: self.tried, having: self.having, last_used: self.last_used.map(|last_used| last_used.build) }
    }

    /// Whether these are the builds of `job` that have `having`, with none taken yet.
    pub(super) fn is_of(&self, job: JobId, having: &Having) -> bool {
        self.job == job && self.tried == 0 && self.having == *having
    }

    /// Whether the next build has to be fetched.
    pub(super) fn is_at_end_of_page(&self) -> bool {
        self.page.as_slice().is_empty()
    }

    /// The builds after the one taken last that are fetched already, where there are so many that it is worth the while
    /// to look at what they have together: the first builds do not count, because most often they will do.
    pub(super) fn many_ahead(&self) -> Option<&[SucceededBuild]> {
        let ahead = self.page.as_slice();
        (ahead.len() >= FIRST_PAGE).then_some(ahead)
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
                return Ok(Some((build, self.is_newer)));
            }
            match (self.next.take(), self.last_used) {
                (Some(direction), _) => self.fetch(direction, history, resources)?,
                (None, Some(last_used)) if self.is_newer => {
                    self.is_newer = false;
                    self.fetch(Direction::Descending(Some(last_used.older_bound())), history, resources)?;
                }
                (None, _) => return Ok(None),
            }
        }
    }

    fn fetch<H: History>(
        &mut self,
        direction: Direction,
        history: &mut H,
        resources: &[ResourceId],
    ) -> Result<(), H::Error> {
        let having = if self.is_newer { Vec::new() } else { self.having.pairs() };
        let request = BuildPage { job: self.job, direction, having: &having, resources, limit: self.page_size };
        let page = history.succeeded_builds(&[request])?.pop().unwrap_or_default();
        self.turn_to(page, direction);
        Ok(())
    }

    fn turn_to(&mut self, page: Vec<SucceededBuild>, direction: Direction) {
        let last = page.last().filter(|_| page.len() >= self.page_size);
        self.next = last.map(|last| match direction {
            Direction::Ascending(_) => Direction::Ascending(last.order),
            Direction::Descending(_) => Direction::Descending(Some(last.order)),
        });
        self.page = page.into_iter();
        self.page_size = (self.page_size * 2).min(LARGEST_PAGE);
    }
}

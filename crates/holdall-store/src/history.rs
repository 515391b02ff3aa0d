//! The past as input resolution asks for it, answered from the tables: one indexed query a question.

use std::sync::Arc;

use holdall_engine::ids::{BuildId, JobId, ResourceId};
use holdall_engine::resolve::{
    BuildOrder, BuildPage, Direction, History, KnownVersion, Output, SucceededBuild, Used, VersionState,
};
use holdall_engine::version::{Version, VersionDigest};

use crate::value::{Row, Value};
use crate::versions::placeholders;
use crate::{StoreError, Tx, params};

/// The history of a transaction's snapshot.
pub struct TxHistory<'t, 'c> {
    tx: &'t mut Tx<'c>,
}

impl<'t, 'c> TxHistory<'t, 'c> {
    /// Looks at the past through a transaction.
    pub fn new(tx: &'t mut Tx<'c>) -> TxHistory<'t, 'c> {
        TxHistory { tx }
    }
}

const KNOWN: &str = "SELECT v.digest, v.version, v.check_order FROM resource r \
     JOIN version v ON v.scope_id = r.scope_id WHERE r.id = ?1";
const ENABLED: &str =
    "NOT EXISTS (SELECT 1 FROM disabled_version d WHERE d.resource_id = r.id AND d.digest = v.digest)";

fn known(row: &Row) -> Result<KnownVersion, StoreError> {
    Ok(KnownVersion { digest: row.get(0)?, version: row.get(1)?, order: row.get(2)? })
}

impl History for TxHistory<'_, '_> {
    type Error = StoreError;

    fn newest_enabled(&mut self, resource: ResourceId, up_to: i64) -> Result<Option<KnownVersion>, StoreError> {
        self.tx
            .query_one(
                &format!("{KNOWN} AND v.check_order <= ?2 AND {ENABLED} ORDER BY v.check_order DESC, v.digest LIMIT 1"),
                params![resource, up_to],
            )?
            .map(|row| known(&row))
            .transpose()
    }

    fn enabled_after(
        &mut self,
        resource: ResourceId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<KnownVersion>, StoreError> {
        self.tx
            .query(
                &format!("{KNOWN} AND v.check_order > ?2 AND {ENABLED} ORDER BY v.check_order, v.digest LIMIT ?3"),
                params![resource, after, limit],
            )?
            .iter()
            .map(known)
            .collect()
    }

    fn newest_matching(&mut self, resource: ResourceId, pin: &Version) -> Result<Option<KnownVersion>, StoreError> {
        // A pin names the whole version nearly always; only a subset of the keys needs a walk over the versions.
        let exact = self.versions(resource, &[pin.digest()])?;
        if let Some(found) = exact.into_iter().next() {
            return Ok(Some(found));
        }
        let mut below = i64::MAX;
        loop {
            let page: Vec<KnownVersion> = self
                .tx
                .query(
                    &format!("{KNOWN} AND v.check_order < ?2 ORDER BY v.check_order DESC, v.digest LIMIT 500"),
                    params![resource, below],
                )?
                .iter()
                .map(known)
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(None) };
            below = last.order;
            if let Some(found) = page.iter().find(|version| version.version.matches(pin)) {
                return Ok(Some(found.clone()));
            }
        }
    }

    fn versions(&mut self, resource: ResourceId, digests: &[VersionDigest]) -> Result<Vec<KnownVersion>, StoreError> {
        let mut found = Vec::with_capacity(digests.len());
        for chunk in digests.chunks(200) {
            let mut args: Vec<Value> = vec![resource.into()];
            args.extend(chunk.iter().map(Value::from));
            let sql = format!("{KNOWN} AND v.digest IN ({})", placeholders(2, chunk.len()));
            for row in self.tx.query(&sql, &args)? {
                found.push(known(&row)?);
            }
        }
        Ok(found)
    }

    fn highest_used(&mut self, job: JobId, resource: ResourceId) -> Result<Option<Used>, StoreError> {
        self.tx
            .query_one(
                "SELECT i.build_id, v.check_order FROM resource r JOIN version v ON v.scope_id = r.scope_id \
                 JOIN build_input i ON i.job_id = ?1 AND i.resource_id = r.id AND i.digest = v.digest \
                 WHERE r.id = ?2 ORDER BY v.check_order DESC, v.digest, i.build_id DESC LIMIT 1",
                params![job, resource],
            )?
            .map(|row| Ok(Used { build: row.get(0)?, order: row.get(1)? }))
            .transpose()
    }

    fn pipes_into(&mut self, build: BuildId) -> Result<Vec<(JobId, BuildOrder)>, StoreError> {
        self.tx
            .query(
                "SELECT b.job_id, b.ord, b.id FROM build_pipe p JOIN build b ON b.id = p.from_build \
                 WHERE p.to_build = ?1 ORDER BY b.id",
                params![build],
            )?
            .iter()
            .map(|row| Ok((row.get(0)?, BuildOrder { original: row.get(1)?, build: row.get(2)? })))
            .collect()
    }

    fn succeeded_builds(&mut self, pages: &[BuildPage<'_>]) -> Result<Vec<Vec<SucceededBuild>>, StoreError> {
        // Each page is a walk along an index; one statement for several would save nothing here.
        pages.iter().map(|page| self.page(page)).collect()
    }

    fn was_used(
        &mut self,
        job: JobId,
        input: &str,
        resource: ResourceId,
        digest: &VersionDigest,
    ) -> Result<bool, StoreError> {
        let row = self.tx.query_one(
            "SELECT 1 FROM build_input WHERE job_id = ?1 AND resource_id = ?2 AND digest = ?3 AND name = ?4 LIMIT 1",
            params![job, resource, digest, input],
        )?;
        Ok(row.is_some())
    }
}

impl TxHistory<'_, '_> {
    /// One page of succeeded builds.
    fn page(&mut self, page: &BuildPage<'_>) -> Result<Vec<SucceededBuild>, StoreError> {
        let mut args: Vec<Value> = vec![page.job.into()];
        let mut filter = String::new();
        for (resource, digest) in page.having {
            let at = args.len() + 1;
            filter.push_str(&format!(
                " AND EXISTS (SELECT 1 FROM vouched c WHERE c.job_id = b.job_id AND c.resource_id = ?{at} \
                 AND c.digest = ?{} AND c.ord = b.ord AND c.build_id = b.id)",
                at + 1
            ));
            args.push((*resource).into());
            args.push((&**digest).into());
        }
        let (bound, order) = match page.direction {
            Direction::Descending(None) => (None, "DESC"),
            Direction::Descending(Some(bound)) => (Some((bound, "<")), "DESC"),
            Direction::Ascending(bound) => (Some((bound, ">")), "ASC"),
        };
        if let Some((bound, sign)) = bound {
            let at = args.len() + 1;
            filter.push_str(&format!(" AND (b.ord {sign} ?{at} OR (b.ord = ?{at} AND b.id {sign} ?{}))", at + 1));
            args.push(bound.original.into());
            args.push(bound.build.into());
        }
        let at = args.len() + 1;
        args.push(page.limit.into());
        let sql = format!(
            "SELECT b.ord, b.id FROM build b WHERE b.job_id = ?1 AND b.status = 'succeeded'{filter} \
             ORDER BY b.ord {order}, b.id {order} LIMIT ?{at}"
        );
        let mut builds = Vec::new();
        for row in self.tx.query(&sql, &args)? {
            let order = BuildOrder { original: row.get(0)?, build: row.get(1)? };
            builds.push(SucceededBuild { order, outputs: Arc::from(Vec::new()) });
        }
        self.fill_outputs(&mut builds, page.resources)?;
        Ok(builds)
    }

    /// Reads what the builds of a page vouch for, one query for all of them.
    fn fill_outputs(&mut self, builds: &mut [SucceededBuild], resources: &[ResourceId]) -> Result<(), StoreError> {
        if builds.is_empty() || resources.is_empty() {
            return Ok(());
        }
        for chunk in builds.chunks_mut(200) {
            let mut args: Vec<Value> = chunk.iter().map(|build| build.order.build.into()).collect();
            args.extend(resources.iter().map(|resource| Value::from(*resource)));
            let sql = format!(
                "SELECT o.build_id, o.resource_id, o.digest, \
                 CASE WHEN d.digest IS NOT NULL THEN 1 WHEN v.id IS NULL THEN 2 ELSE 0 END \
                 FROM vouched o LEFT JOIN resource r ON r.id = o.resource_id \
                 LEFT JOIN version v ON v.scope_id = r.scope_id AND v.digest = o.digest \
                 LEFT JOIN disabled_version d ON d.resource_id = o.resource_id AND d.digest = o.digest \
                 WHERE o.build_id IN ({}) AND o.resource_id IN ({}) ORDER BY o.build_id, o.resource_id, o.position",
                placeholders(1, chunk.len()),
                placeholders(chunk.len() + 1, resources.len())
            );
            let mut outputs: Vec<Vec<Output>> = chunk.iter().map(|_| Vec::new()).collect();
            for row in self.tx.query(&sql, &args)? {
                let build: BuildId = row.get(0)?;
                let state = match row.get::<i64>(3)? {
                    0 => VersionState::Enabled,
                    1 => VersionState::Disabled,
                    _ => VersionState::Gone,
                };
                let output = Output { resource: row.get(1)?, digest: Arc::new(row.get(2)?), state };
                if let Some(index) = chunk.iter().position(|candidate| candidate.order.build == build) {
                    outputs[index].push(output);
                }
            }
            for (build, outputs) in chunk.iter_mut().zip(outputs) {
                build.outputs = Arc::from(outputs);
            }
        }
        Ok(())
    }
}

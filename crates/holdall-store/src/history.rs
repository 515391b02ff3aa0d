//! The past as input resolution asks for it, answered from the tables: one indexed query a question. [`export()`] writes
//! all of it that concerns one job as a document.

mod export;

use std::collections::BTreeMap;
use std::sync::Arc;

use holdall_engine::ids::{BuildId, JobId, ResourceId};
use holdall_engine::resolve::{
    BuildOrder, BuildPage, Direction, History, KnownVersion, Output, SucceededBuild, Used, VersionState,
};
use holdall_engine::version::{Version, VersionDigest};

use crate::value::{Row, Value};
use crate::versions::placeholders;
use crate::{StoreError, Tx, params};

pub use export::export;

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

/// How many pages one query answers at most: SQLite compounds no more than 500 selects.
const PAGES: usize = 64;
/// How many versions one query looks up at most.
const TOGETHER: usize = 200;
/// How many versions that may match a pin are looked at together; nearly always the first does.
const MATCHES: usize = 16;
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
                &format!("{KNOWN} AND v.check_order > ?2 AND {ENABLED} ORDER BY v.check_order, v.digest DESC LIMIT ?3"),
                params![resource, after, limit],
            )?
            .iter()
            .map(known)
            .collect()
    }

    fn newest_matching(&mut self, resource: ResourceId, pin: &Version) -> Result<Option<KnownVersion>, StoreError> {
        let mut args: Vec<Value> = vec![resource.into(), i64::MAX.into(), "".into()];
        let mut filter = String::new();
        for (key, value) in &pin.0 {
            // A version is stored as its canonical text, in which each pair stands as it does alone.
            let pair = Version::of(key, value).canonical();
            let pair = pair.trim_start_matches('{').trim_end_matches('}');
            let escaped = pair.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            args.push(format!("%{escaped}%").into());
            filter.push_str(&format!(" AND v.version LIKE ?{} ESCAPE '\\'", args.len()));
        }
        let sql = format!(
            "{KNOWN}{filter} AND (v.check_order < ?2 OR (v.check_order = ?2 AND v.digest > ?3)) \
             ORDER BY v.check_order DESC, v.digest LIMIT {MATCHES}"
        );
        // The text may hold a pair where the version does not, for example within a value.
        loop {
            let page: Vec<KnownVersion> = self.tx.query(&sql, &args)?.iter().map(known).collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(None) };
            (args[1], args[2]) = (last.order.into(), (&last.digest).into());
            if let Some(found) = page.into_iter().find(|known| known.version.matches(pin)) {
                return Ok(Some(found));
            }
        }
    }

    fn versions(
        &mut self,
        wanted: &[(ResourceId, &VersionDigest)],
    ) -> Result<Vec<(ResourceId, KnownVersion)>, StoreError> {
        let mut found = Vec::with_capacity(wanted.len());
        for chunk in wanted.chunks(TOGETHER) {
            let mut args: Vec<Value> = Vec::new();
            for (resource, digest) in chunk {
                args.extend([Value::from(*resource), Value::from(*digest)]);
            }
            let values = (0..chunk.len()).map(|at| format!("(CAST(?{} AS BIGINT), ?{})", at * 2 + 1, at * 2 + 2));
            let sql = format!(
                "SELECT v.digest, v.version, v.check_order, r.id FROM (VALUES {}) AS w JOIN resource r ON r.id = w.column1 \
                 JOIN version v ON v.scope_id = r.scope_id AND v.digest = w.column2",
                values.collect::<Vec<_>>().join(", ")
            );
            for row in self.tx.query(&sql, &args)? {
                found.push((row.get(3)?, known(&row)?));
            }
        }
        Ok(found)
    }

    fn highest_used(&mut self, job: JobId, resource: ResourceId) -> Result<Option<Used>, StoreError> {
        // Down the versions to the first that was used; no walk at all for a job that never used one.
        self.tx
            .query_one(
                "SELECT (SELECT MAX(i.build_id) FROM build_input i \
                 WHERE i.job_id = ?1 AND i.resource_id = ?2 AND i.digest = v.digest) AS build, v.check_order \
                 FROM resource r JOIN version v ON v.scope_id = r.scope_id WHERE r.id = ?2 \
                 AND EXISTS (SELECT 1 FROM build_input i WHERE i.job_id = ?1 AND i.resource_id = ?2) \
                 AND EXISTS (SELECT 1 FROM build_input i \
                 WHERE i.job_id = ?1 AND i.resource_id = ?2 AND i.digest = v.digest) \
                 ORDER BY v.check_order DESC, build DESC LIMIT 1",
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
        let mut all = Vec::with_capacity(pages.len());
        for chunk in pages.chunks(PAGES) {
            all.extend(self.pages(chunk)?);
        }
        Ok(all)
    }

    fn vouched(
        &mut self,
        job: JobId,
        resource: ResourceId,
        digests: &[Arc<VersionDigest>],
    ) -> Result<Vec<VersionDigest>, StoreError> {
        let mut found = Vec::new();
        for chunk in digests.chunks(TOGETHER) {
            let mut args: Vec<Value> = vec![job.into(), resource.into()];
            args.extend(chunk.iter().map(|digest| Value::from(&**digest)));
            let values: Vec<String> = (3..3 + chunk.len()).map(|arg| format!("(?{arg})")).collect();
            // A version may have been in many builds, of which the first is enough.
            let sql = format!(
                "SELECT d.column1 FROM (VALUES {}) AS d WHERE EXISTS (SELECT 1 FROM vouched v \
                 WHERE v.job_id = ?1 AND v.resource_id = ?2 AND v.digest = d.column1)",
                values.join(", ")
            );
            for row in self.tx.query(&sql, &args)? {
                found.push(row.get(0)?);
            }
        }
        Ok(found)
    }

    fn were_used(
        &mut self,
        job: JobId,
        inputs: &[(&str, ResourceId, &VersionDigest)],
    ) -> Result<Vec<bool>, StoreError> {
        let mut all = Vec::with_capacity(inputs.len());
        for chunk in inputs.chunks(TOGETHER) {
            let mut args: Vec<Value> = vec![job.into()];
            for (input, resource, digest) in chunk {
                args.extend([Value::from(*input), Value::from(*resource), Value::from(*digest)]);
            }
            let values = (0..chunk.len())
                .map(|at| format!("({at}, ?{}, CAST(?{} AS BIGINT), ?{})", at * 3 + 2, at * 3 + 3, at * 3 + 4));
            let sql = format!(
                "SELECT w.column1 FROM (VALUES {}) AS w WHERE EXISTS (SELECT 1 FROM build_input i WHERE i.job_id = ?1 \
                 AND i.name = w.column2 AND i.resource_id = w.column3 AND i.digest = w.column4)",
                values.collect::<Vec<_>>().join(", ")
            );
            let mut used = vec![false; chunk.len()];
            for row in self.tx.query(&sql, &args)? {
                let place = usize::try_from(row.get::<i64>(0)?).unwrap_or(usize::MAX);
                if let Some(used) = used.get_mut(place) {
                    *used = true;
                }
            }
            all.extend(used);
        }
        Ok(all)
    }
}

/// Builds with their outputs as they are read: by place, then by resource and place among the outputs.
type Read = BTreeMap<BuildOrder, BTreeMap<(ResourceId, i64), Output>>;

impl TxHistory<'_, '_> {
    /// Several pages with their outputs, in one query.
    fn pages(&mut self, pages: &[BuildPage<'_>]) -> Result<Vec<Vec<SucceededBuild>>, StoreError> {
        let Some(first) = pages.first() else { return Ok(Vec::new()) };
        let mut args = Vec::new();
        let selects: Vec<String> =
            pages.iter().enumerate().map(|(index, page)| select(index, page, &mut args)).collect();
        let wanted = placeholders(args.len() + 1, first.resources.len());
        args.extend(first.resources.iter().map(|resource| Value::from(*resource)));
        let sql = format!(
            "SELECT p.page, p.ord, p.build, o.resource_id, o.position, o.digest, \
             CASE WHEN d.digest IS NOT NULL THEN 1 WHEN v.id IS NULL THEN 2 ELSE 0 END \
             FROM ({}) AS p LEFT JOIN vouched o ON o.build_id = p.build AND o.resource_id IN ({wanted}) \
             LEFT JOIN resource r ON r.id = o.resource_id \
             LEFT JOIN version v ON v.scope_id = r.scope_id AND v.digest = o.digest \
             LEFT JOIN disabled_version d ON d.resource_id = o.resource_id AND d.digest = o.digest",
            selects.join(" UNION ALL ")
        );
        let mut read: Vec<Read> = pages.iter().map(|_| Read::new()).collect();
        for row in self.tx.query(&sql, &args)? {
            let page: i64 = row.get(0)?;
            let order = BuildOrder { original: row.get(1)?, build: row.get(2)? };
            let page = usize::try_from(page).ok().and_then(|page| read.get_mut(page));
            let outputs = page.map(|page| page.entry(order).or_default());
            let (Some(outputs), Some(resource)) = (outputs, row.get::<Option<ResourceId>>(3)?) else { continue };
            let state = match row.get::<i64>(6)? {
                0 => VersionState::Enabled,
                1 => VersionState::Disabled,
                _ => VersionState::Gone,
            };
            let output = Output { resource, digest: Arc::new(row.get(5)?), state };
            outputs.insert((resource, row.get(4)?), output);
        }
        let build = |(order, outputs): (BuildOrder, BTreeMap<_, Output>)| SucceededBuild {
            order,
            outputs: outputs.into_values().collect(),
        };
        let ordered = pages.iter().zip(read).map(|(page, read)| match page.direction {
            Direction::Ascending(_) => read.into_iter().map(build).collect(),
            Direction::Descending(_) => read.into_iter().rev().map(build).collect(),
        });
        Ok(ordered.collect())
    }
}

/// The builds of one page: along the index of the builds of the job, or of those that vouch for a version.
fn select(index: usize, page: &BuildPage<'_>, args: &mut Vec<Value>) -> String {
    let mut arg = |value: Value| {
        args.push(value);
        format!("?{}", args.len())
    };
    let job = arg(page.job.into());
    let ord = "b.ord";
    let (id, table, mut filter) = match page.having.first() {
        None => ("b.id", "build b", format!("b.job_id = {job} AND b.status = 'succeeded'")),
        Some((resource, digest)) => {
            let (resource, digest) = (arg((*resource).into()), arg((*digest).into()));
            let filter = format!("b.job_id = {job} AND b.resource_id = {resource} AND b.digest = {digest}");
            ("b.build_id", "vouched b", filter)
        }
    };
    for (resource, digest) in page.having.iter().skip(1) {
        let (resource, digest) = (arg((*resource).into()), arg((*digest).into()));
        filter.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM vouched c WHERE c.job_id = {job} AND c.resource_id = {resource} \
             AND c.digest = {digest} AND c.ord = {ord} AND c.build_id = {id})"
        ));
    }
    let (bound, order) = match page.direction {
        Direction::Descending(None) => (None, "DESC"),
        Direction::Descending(Some(bound)) => (Some((bound, "<")), "DESC"),
        Direction::Ascending(bound) => (Some((bound, ">")), "ASC"),
    };
    if let Some((bound, sign)) = bound {
        let (original, build) = (arg(bound.original.into()), arg(bound.build.into()));
        filter.push_str(&format!(" AND ({ord}, {id}) {sign} ({original}, {build})"));
    }
    let limit = arg(page.limit.into());
    format!(
        "SELECT * FROM (SELECT {index} AS page, {ord} AS ord, {id} AS build FROM {table} WHERE {filter} \
         ORDER BY {ord} {order}, {id} {order} LIMIT {limit}) AS p{index}"
    )
}

//! The history of one job as a document, so that what the server decided can be looked at and repeated elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::ids::{BuildId, JobId, ResourceId};
use holdall_engine::resolve::document::{
    Document, DocumentBuild, DocumentBuildInput, DocumentBuildOutput, DocumentInput, DocumentResource, DocumentVersion,
    DocumentWanted,
};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::{Version, VersionDigest};

use crate::jobs::{InputRow, job_get, job_inputs};
use crate::value::Value;
use crate::versions::placeholders;
use crate::{StoreError, Tx, params};

/// Everything that the resolution of a job's inputs depends on; `None` where there is no such job.
///
/// That is the job and those in `passed` of its inputs, the resources of its inputs with all the versions that they
/// have today, and the builds of those jobs, as far as they concern those resources. A bag that an environment's own
/// `start-deploy` takes is chosen by the release model from among what this resolves.
pub fn export(tx: &mut Tx<'_>, job: JobId) -> Result<Option<Document>, StoreError> {
    let Some(row) = job_get(tx, job)? else { return Ok(None) };
    let inputs = job_inputs(tx, job)?;
    let jobs = job_names(tx, job, &inputs)?;
    let resources: BTreeMap<ResourceId, &InputRow> = inputs.iter().map(|input| (input.resource, input)).collect();
    let names: BTreeMap<ResourceId, String> =
        resources.iter().map(|(resource, input)| (*resource, input.resource_name.clone())).collect();
    let builds = builds(tx, job, &jobs, &names)?;
    let versions = versions(tx, &names, &builds)?;
    let with_versions: BTreeSet<&str> = versions.iter().map(|version| version.resource.as_str()).collect();
    // What a put saved is there without a check.
    let checked = |input: &InputRow| input.checked_at.is_some() || with_versions.contains(input.resource_name.as_str());
    Ok(Some(Document {
        job: row.name,
        inputs: inputs
            .iter()
            .map(|input| DocumentInput {
                name: input.name.clone(),
                resource: input.resource_name.clone(),
                passed: input.passed.iter().filter_map(|job| jobs.get(job)).cloned().collect(),
                wanted: DocumentWanted(input.to_resolve().wanted),
                trigger: input.trigger,
            })
            .collect(),
        resources: resources
            .values()
            .map(|input| DocumentResource { name: input.resource_name.clone(), checked: checked(input) })
            .collect(),
        jobs: jobs.into_values().collect(),
        versions,
        builds,
    }))
}

/// The job and those in `passed` of its inputs.
fn job_names(tx: &mut Tx<'_>, job: JobId, inputs: &[InputRow]) -> Result<BTreeMap<JobId, String>, StoreError> {
    let ids: BTreeSet<JobId> = inputs.iter().flat_map(|input| input.passed.iter().copied()).chain([job]).collect();
    let args: Vec<Value> = ids.iter().map(|id| Value::from(*id)).collect();
    let sql = format!("SELECT id, name FROM job WHERE id IN ({})", placeholders(1, args.len()));
    tx.query(&sql, &args)?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

fn builds(
    tx: &mut Tx<'_>,
    job: JobId,
    jobs: &BTreeMap<JobId, String>,
    resources: &BTreeMap<ResourceId, String>,
) -> Result<Vec<DocumentBuild>, StoreError> {
    let args: Vec<Value> = jobs.keys().map(|id| Value::from(*id)).collect();
    let filter = format!("b.job_id IN ({})", placeholders(1, jobs.len()));
    let sql = format!("SELECT b.id, b.job_id, b.status, b.rerun_of FROM build b WHERE {filter}");
    let mut builds: BTreeMap<BuildId, DocumentBuild> = BTreeMap::new();
    for row in tx.query(&sql, &args)? {
        let (id, job, status): (BuildId, JobId, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let status = BuildStatus::from_name(&status)
            .ok_or_else(|| StoreError::Inconsistent(format!("build {id} has the status {status}")))?;
        let build = DocumentBuild {
            id,
            job: jobs.get(&job).cloned().unwrap_or_default(),
            status,
            rerun_of: row.get(3)?,
            inputs: Vec::new(),
            outputs: Vec::new(),
            passed_builds: Vec::new(),
        };
        builds.insert(id, build);
    }
    let sql = format!(
        "SELECT i.build_id, i.name, i.resource_id, i.version FROM build_input i JOIN build b ON b.id = i.build_id \
         WHERE {filter} ORDER BY i.build_id, i.name"
    );
    for row in tx.query(&sql, &args)? {
        let (build, resource): (BuildId, ResourceId) = (row.get(0)?, row.get(2)?);
        if let (Some(build), Some(resource)) = (builds.get_mut(&build), resources.get(&resource)) {
            let (name, version) = (row.get(1)?, row.get(3)?);
            build.inputs.push(DocumentBuildInput { name, resource: resource.clone(), version });
        }
    }
    let sql = format!(
        "SELECT o.build_id, o.resource_id, o.version FROM build_output o JOIN build b ON b.id = o.build_id \
         WHERE {filter} ORDER BY o.build_id, o.position"
    );
    for row in tx.query(&sql, &args)? {
        let (build, resource): (BuildId, ResourceId) = (row.get(0)?, row.get(1)?);
        if let (Some(build), Some(resource)) = (builds.get_mut(&build), resources.get(&resource)) {
            build.outputs.push(DocumentBuildOutput { resource: resource.clone(), version: row.get(2)? });
        }
    }
    let pipes = tx.query(
        "SELECT p.to_build, p.from_build FROM build_pipe p JOIN build b ON b.id = p.to_build \
         WHERE b.job_id = ?1 ORDER BY p.to_build, p.from_build",
        params![job],
    )?;
    for row in pipes {
        let (to, from): (BuildId, BuildId) = (row.get(0)?, row.get(1)?);
        // What a job vouched for that is in `passed` no more decides nothing.
        if builds.contains_key(&from)
            && let Some(build) = builds.get_mut(&to)
        {
            build.passed_builds.push(from);
        }
    }
    Ok(builds.into_values().collect())
}

/// All versions of the resources; those that are gone, as far as a build has them and they are disabled.
fn versions(
    tx: &mut Tx<'_>,
    resources: &BTreeMap<ResourceId, String>,
    builds: &[DocumentBuild],
) -> Result<Vec<DocumentVersion>, StoreError> {
    let mut all = Vec::new();
    for (&id, name) in resources {
        let disabled = tx.query("SELECT digest FROM disabled_version WHERE resource_id = ?1", params![id])?;
        let mut disabled: BTreeSet<VersionDigest> =
            disabled.iter().map(|row| row.get(0)).collect::<Result<_, StoreError>>()?;
        let known = tx.query(
            "SELECT v.digest, v.version, v.check_order FROM resource r JOIN version v ON v.scope_id = r.scope_id \
             WHERE r.id = ?1 ORDER BY v.check_order, v.digest",
            params![id],
        )?;
        for row in known {
            let enabled = !disabled.remove(&row.get(0)?);
            let (version, order) = (row.get(1)?, Some(row.get(2)?));
            all.push(DocumentVersion { resource: name.clone(), version, order, enabled });
        }
        if disabled.is_empty() {
            continue;
        }
        let inputs = builds.iter().flat_map(|build| &build.inputs).map(|input| (&input.resource, &input.version));
        let outputs = builds.iter().flat_map(|build| &build.outputs).map(|output| (&output.resource, &output.version));
        let used: BTreeSet<&Version> =
            inputs.chain(outputs).filter(|(resource, _)| *resource == name).map(|(_, version)| version).collect();
        let gone = used.into_iter().filter(|version| disabled.contains(&version.digest()));
        all.extend(gone.map(|version| DocumentVersion {
            resource: name.clone(),
            version: version.clone(),
            order: None,
            enabled: false,
        }));
    }
    Ok(all)
}

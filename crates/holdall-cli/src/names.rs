//! How people name things on the command line: `TEAM/PIPELINE/JOB`, `ENVIRONMENT/JOB`, a build by id or path, a bag
//! by number or by the environment where it is current.

use holdall_protocol::api::{BuildSummary, EnvironmentDetail, ResourceSummary};

use crate::client::{Client, escape};
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};

/// A pipeline of a team: `TEAM/PIPELINE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineName {
    /// The team.
    pub team: String,
    /// The pipeline.
    pub pipeline: String,
}

impl std::str::FromStr for PipelineName {
    type Err = String;

    fn from_str(text: &str) -> Result<PipelineName, String> {
        match parts(text)[..] {
            [team, pipeline] => Ok(PipelineName { team: team.to_owned(), pipeline: pipeline.to_owned() }),
            _ => Err(format!("'{text}' is not TEAM/PIPELINE")),
        }
    }
}

impl PipelineName {
    /// As a part of a path of the API.
    pub fn path(&self) -> String {
        format!("{}/{}", escape(&self.team), escape(&self.pipeline))
    }
}

/// A job as it was named: `TEAM/PIPELINE/JOB`, or `ENVIRONMENT/JOB` for a job of the release model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobName {
    /// A job of any pipeline.
    Full {
        /// Its pipeline.
        pipeline: PipelineName,
        /// Its name.
        job: String,
    },
    /// A job of an environment.
    InEnvironment {
        /// The environment.
        environment: String,
        /// Its name.
        job: String,
    },
}

impl std::str::FromStr for JobName {
    type Err = String;

    fn from_str(text: &str) -> Result<JobName, String> {
        match parts(text)[..] {
            [team, pipeline, job] => Ok(JobName::Full {
                pipeline: PipelineName { team: team.to_owned(), pipeline: pipeline.to_owned() },
                job: job.to_owned(),
            }),
            [environment, job] => {
                Ok(JobName::InEnvironment { environment: environment.to_owned(), job: job.to_owned() })
            }
            _ => Err(format!("'{text}' is neither TEAM/PIPELINE/JOB nor ENVIRONMENT/JOB")),
        }
    }
}

impl JobName {
    /// The pipeline and the job's name; asks the server for an environment's pipeline.
    pub fn resolve(&self, ctx: &Context, system: &SystemArgs) -> Result<(PipelineName, String), CliError> {
        match self {
            JobName::Full { pipeline, job } => Ok((pipeline.clone(), job.clone())),
            JobName::InEnvironment { environment, job } => {
                let system = ctx.system_of(system, environment)?;
                let path = format!("systems/{}/environments/{}", escape(&system), escape(environment));
                let detail: EnvironmentDetail = ctx.client()?.get(&path)?;
                Ok((PipelineName { team: detail.team, pipeline: detail.pipeline }, job.clone()))
            }
        }
    }
}

/// What a pin or tick is on: a service of a system, or a resource of any pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceName {
    /// A service, where bags are packed.
    Service(String),
    /// `TEAM/PIPELINE/RESOURCE`.
    Resource {
        /// Its pipeline.
        pipeline: PipelineName,
        /// Its name.
        resource: String,
    },
}

impl std::str::FromStr for ResourceName {
    type Err = String;

    fn from_str(text: &str) -> Result<ResourceName, String> {
        match parts(text)[..] {
            [service] if !service.is_empty() => Ok(ResourceName::Service(service.to_owned())),
            [team, pipeline, resource] => Ok(ResourceName::Resource {
                pipeline: PipelineName { team: team.to_owned(), pipeline: pipeline.to_owned() },
                resource: resource.to_owned(),
            }),
            _ => Err(format!("'{text}' is neither a service nor TEAM/PIPELINE/RESOURCE")),
        }
    }
}

impl ResourceName {
    /// The resource: for a service, that of the first environment that packs it, or of the one that is named.
    pub fn resolve(
        &self,
        ctx: &Context,
        system: &SystemArgs,
        environment: Option<&str>,
    ) -> Result<(PipelineName, String), CliError> {
        let service = match self {
            ResourceName::Resource { pipeline, resource } => return Ok((pipeline.clone(), resource.clone())),
            ResourceName::Service(service) => service,
        };
        let client = ctx.client()?;
        let system = match environment {
            Some(environment) => ctx.system_of(system, environment)?,
            None => ctx.system(system)?,
        };
        let packing = ctx.environments(&system)?.into_iter().filter(|summary| summary.after.is_empty());
        let packing = packing.map(|summary| summary.environment);
        for environment in packing.filter(|name| environment.is_none_or(|wanted| wanted == name)) {
            let path = format!("systems/{}/environments/{}", escape(&system), escape(&environment));
            let detail: EnvironmentDetail = client.get(&path)?;
            let query = format!("resources?team={}&pipeline={}", escape(&detail.team), escape(&detail.pipeline));
            let resources: Vec<ResourceSummary> = client.list(&query, None)?;
            if resources.iter().any(|resource| resource.resource == *service) {
                return Ok((PipelineName { team: detail.team, pipeline: detail.pipeline }, service.clone()));
            }
        }
        let place = environment.map(|environment| format!(" that {environment} packs")).unwrap_or_default();
        Err(CliError::new(Kind::NotFound, format!("{system} has no service {service}{place}"))
            .hint("`holdall system show` lists the services; another resource is TEAM/PIPELINE/RESOURCE"))
    }
}

/// A build as it was named: its id, or `TEAM/PIPELINE/JOB/NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildName {
    /// By id.
    Id(i64),
    /// By its number in its job, which may be like `7.2`.
    InJob {
        /// The job.
        job: JobName,
        /// The number.
        number: String,
    },
}

impl std::str::FromStr for BuildName {
    type Err = String;

    fn from_str(text: &str) -> Result<BuildName, String> {
        let wrong =
            || format!("'{text}' is neither a build's id nor TEAM/PIPELINE/JOB/NUMBER nor ENVIRONMENT/JOB/NUMBER");
        if let Ok(id) = text.parse() {
            return Ok(BuildName::Id(id));
        }
        let (job, number) = text.rsplit_once('/').ok_or_else(wrong)?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match job.parse() {
            Ok(job) if is_number => Ok(BuildName::InJob { job, number: number.to_owned() }),
            _ => Err(wrong()),
        }
    }
}

impl BuildName {
    /// The build's id; asks the server for a number in a job.
    pub fn resolve(&self, ctx: &Context, system: &SystemArgs) -> Result<i64, CliError> {
        let (job, number) = match self {
            BuildName::Id(id) => return Ok(*id),
            BuildName::InJob { job, number } => (job, number),
        };
        let (pipeline, job) = job.resolve(ctx, system)?;
        let (team, name) = (escape(&pipeline.team), escape(&pipeline.pipeline));
        let query = format!("builds?team={team}&pipeline={name}&job={}", escape(&job));
        let builds: Vec<BuildSummary> = ctx.client()?.list(&query, None)?;
        let found = builds.iter().find(|build| build.build.name == *number).map(|build| build.build.id);
        found.ok_or_else(|| {
            let job = format!("{}/{}/{job}", pipeline.team, pipeline.pipeline);
            CliError::new(Kind::NotFound, format!("{job} has no build {number}"))
                .hint("`holdall build list` has the builds")
        })
    }
}

/// A bag as it was named: its number, or an environment where it is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BagName {
    /// By number.
    Number(i64),
    /// What is current there.
    CurrentIn(String),
}

impl std::str::FromStr for BagName {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<BagName, std::convert::Infallible> {
        Ok(text.parse().map_or_else(|_| BagName::CurrentIn(text.to_owned()), BagName::Number))
    }
}

impl BagName {
    /// The bag's number.
    pub fn resolve(&self, client: &Client, system: &str) -> Result<i64, CliError> {
        match self {
            BagName::Number(number) => Ok(*number),
            BagName::CurrentIn(environment) => {
                let path = format!("systems/{}/environments/{}", escape(system), escape(environment));
                let detail: EnvironmentDetail = client.get(&path)?;
                detail.summary.current.ok_or_else(|| {
                    CliError::new(Kind::NotFound, format!("no bag is current in {environment} yet"))
                        .hint("name a bag by its number; `holdall bag list` has them")
                })
            }
        }
    }
}

/// Refuses what is no address of a PostgreSQL database. It is not repeated: there may be a password in it.
pub fn database_url(url: &str) -> Result<(), CliError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(());
    }
    Err(CliError::invalid("the address of the database is not postgres://USER@HOST/NAME")
        .hint("without --database (and HOLDALL_DATABASE) there is SQLite in the data folder"))
}

fn parts(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) { Vec::new() } else { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_parts_that_they_need() {
        assert!("a/b".parse::<PipelineName>().is_ok());
        for text in ["", "a", "a/", "/b", "a/b/c"] {
            assert!(text.parse::<PipelineName>().is_err(), "{text}");
        }
        assert!(matches!("a/b".parse(), Ok(JobName::InEnvironment { .. })));
        assert!(matches!("a/b/c".parse(), Ok(JobName::Full { .. })));
        for text in ["", "a", "a//c", "a/b/c/d"] {
            assert!(text.parse::<JobName>().is_err(), "{text}");
        }
        assert_eq!("api".parse(), Ok(ResourceName::Service("api".into())));
        assert!("a/b".parse::<ResourceName>().is_err());
        assert!("".parse::<ResourceName>().is_err());
    }

    #[test]
    fn a_build_is_an_id_or_a_number_in_a_job() {
        assert_eq!("17".parse(), Ok(BuildName::Id(17)));
        let job = JobName::InEnvironment { environment: "staging".into(), job: "test".into() };
        assert_eq!("staging/test/3.1".parse(), Ok(BuildName::InJob { job, number: "3.1".into() }));
        for text in ["", "x", "staging/test", "staging/test/", "a/b/c/d/1", "1/2"] {
            assert!(text.parse::<BuildName>().is_err(), "{text}");
        }
    }
}

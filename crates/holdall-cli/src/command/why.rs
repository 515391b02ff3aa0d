//! `holdall why`.

use clap::Args;
use holdall_protocol::api::{Hold, JobDetail};

use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::names::JobName;
use crate::output::{OutputArgs, hold_lines};

/// Says why nothing is moving in an environment, or in a job, completely
///
/// Exit code 3 when something holds it back, 0 when nothing does.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// An environment, or a job: TEAM/PIPELINE/JOB, ENVIRONMENT/JOB
    #[arg(value_name = "ENVIRONMENT|JOB")]
    of: Of,
    /// This bag of the environment [default: the next one]
    #[arg(long, value_name = "N")]
    bag: Option<i64>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is asked about.
#[derive(Debug, Clone)]
enum Of {
    Environment(String),
    Job(JobName),
}

impl std::str::FromStr for Of {
    type Err = String;

    fn from_str(text: &str) -> Result<Of, String> {
        match text.contains('/') {
            true => text.parse().map(Of::Job),
            false => Ok(Of::Environment(text.to_owned())),
        }
    }
}

/// Prints the report.
pub fn run(ctx: &Context, args: WhyArgs) -> Result<(), CliError> {
    let holds: Vec<Hold> = match (&args.of, args.bag) {
        (Of::Environment(environment), bag) => {
            let system = ctx.system_of(&args.system, environment)?;
            let bag = bag.map(|bag| format!("?bag={bag}")).unwrap_or_default();
            let path = format!("systems/{}/environments/{}/why{bag}", escape(&system), escape(environment));
            ctx.client()?.list(&path, None)?
        }
        (Of::Job(_), Some(_)) => {
            return Err(CliError::new(Kind::Invalid, "--bag goes with an environment, not with a job"));
        }
        (Of::Job(job), None) => {
            let (pipeline, job) = job.resolve(ctx, &args.system)?;
            let detail: JobDetail = ctx.client()?.get(&format!("jobs/{}/{}", pipeline.path(), escape(&job)))?;
            detail.report
        }
    };
    args.output.print(&holds, |style| match holds.is_empty() {
        true => "Nothing holds it back.\n".to_owned(),
        false => hold_lines(&holds, style),
    })?;
    if holds.is_empty() { Ok(()) } else { Err(CliError::silent(Kind::Held)) }
}

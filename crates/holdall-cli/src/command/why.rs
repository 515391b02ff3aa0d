//! `holdall why`.

use clap::Args;
use holdall_protocol::api::Hold;

use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::output::{OutputArgs, hold_lines};

/// Says why nothing is moving in an environment, completely
///
/// Exit code 3 when something holds it back, 0 when nothing does.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Where
    environment: String,
    /// This bag [default: the next one]
    #[arg(long, value_name = "N")]
    bag: Option<i64>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the report.
pub fn run(ctx: &Context, args: WhyArgs) -> Result<(), CliError> {
    let system = ctx.system_of(&args.system, &args.environment)?;
    let bag = args.bag.map(|bag| format!("?bag={bag}")).unwrap_or_default();
    let path = format!("systems/{}/environments/{}/why{bag}", escape(&system), escape(&args.environment));
    let holds: Vec<Hold> = ctx.client()?.list(&path, None)?;
    args.output.print(&holds, |style| match holds.is_empty() {
        true => "Nothing holds it back.\n".to_owned(),
        false => hold_lines(&holds, style),
    })?;
    if holds.is_empty() { Ok(()) } else { Err(CliError::silent(Kind::Held)) }
}

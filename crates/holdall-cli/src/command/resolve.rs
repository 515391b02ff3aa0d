//! `holdall resolve`: input resolution on a history in a file, away from any server.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use clap::Args;
use flate2::bufread::MultiGzDecoder;
use holdall_engine::resolve::document::Document;

use crate::context::Context;
use crate::error::{CliError, Kind};

/// What a gzip stream begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Resolves the inputs of a job from its history in a file, and says why where it cannot
///
/// Reads what `holdall admin export-history TEAM/PIPELINE/JOB` writes, and prints as JSON what the server decides on
/// it. Ends with 0 when every input is resolved, with 3 when one is not, and with 2 when the file is not valid; then
/// every problem is printed with its line and column. With `--lines`, one line that is not valid makes it 2, and else
/// one that is not resolved 3; the others have their results all the same. No server is asked.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// The history; `-` for standard input; may be compressed with gzip
    file: String,
    /// One document a line, and one result a line; that of a line that is not valid is `{"problems": [...]}`
    #[arg(long)]
    lines: bool,
}

/// How a document ended, in ascending order of how much it matters for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Resolved,
    Unresolved,
    Invalid,
}

/// Evaluates the document, or the documents.
pub fn run(_ctx: &Context, args: ResolveArgs) -> Result<(), CliError> {
    let name = if args.file == "-" { "standard input" } else { args.file.as_str() };
    let cannot_read = |error: io::Error| CliError::invalid(format!("cannot read {name}: {error}"));
    let mut input = open(&args.file).map_err(cannot_read)?;
    let mut output = BufWriter::new(io::stdout().lock());
    let mut end = End::Resolved;
    if args.lines {
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            number += 1;
            if input.read_until(b'\n', &mut line).map_err(cannot_read)? == 0 {
                break;
            }
            // A document that is cut off ends on its own line.
            let text = line.trim_ascii_end();
            if !text.is_empty() {
                end = end.max(evaluate(text, Some(number), name, &mut output)?);
            }
        }
    } else {
        let mut text = Vec::new();
        input.read_to_end(&mut text).map_err(cannot_read)?;
        end = evaluate(&text, None, name, &mut output)?;
    }
    output.flush()?;
    match end {
        End::Resolved => Ok(()),
        End::Unresolved => Err(CliError::silent(Kind::Held)),
        End::Invalid => Err(CliError::silent(Kind::Invalid)),
    }
}

/// Evaluates one document, which stands on one line of a larger file where that is given.
fn evaluate(text: &[u8], line: Option<usize>, name: &str, output: &mut impl Write) -> Result<End, CliError> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(mut problems) => {
            let mut stderr = io::stderr().lock();
            for problem in &mut problems {
                problem.line += line.map_or(0, |line| line - 1);
                writeln!(stderr, "{name}:{problem}")?;
            }
            if line.is_some() {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                writeln!(output, "{}", serde_json::json!({ "problems": problems }))?;
            }
            return Ok(End::Invalid);
        }
    };
    let evaluation = document.evaluate();
    let result = if line.is_some() {
        serde_json::to_writer(&mut *output, &evaluation)
    } else {
        serde_json::to_writer_pretty(&mut *output, &evaluation)
    };
    result.map_err(io::Error::from)?;
    writeln!(output)?;
    Ok(if evaluation.resolution.resolved { End::Resolved } else { End::Unresolved })
}

/// The file, or standard input, uncompressed.
fn open(file: &str) -> io::Result<Box<dyn BufRead>> {
    let mut raw: Box<dyn BufRead> =
        if file == "-" { Box::new(io::stdin().lock()) } else { Box::new(BufReader::new(File::open(file)?)) };
    let mut magic = Vec::new();
    (&mut raw).take(GZIP.len() as u64).read_to_end(&mut magic)?;
    let is_gzip = magic == GZIP;
    let whole = io::Cursor::new(magic).chain(raw);
    Ok(if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(whole))) } else { Box::new(whole) })
}

//! Values for the `((vars))` of a file that is set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use holdall_config::yaml;
use serde_json::Value;

use crate::error::CliError;

/// Options that give values to `((vars))`. Later ones win, `--var` over files.
#[derive(Debug, Clone, Default, Args)]
pub struct VarArgs {
    /// A value for `((NAME))`, as text; may be given several times
    #[arg(long = "var", short = 'v', value_name = "NAME=VALUE", value_parser = split)]
    vars: Vec<(String, String)>,
    /// A value for `((NAME))`, as YAML
    #[arg(long = "yaml-var", value_name = "NAME=YAML", value_parser = split)]
    yaml_vars: Vec<(String, String)>,
    /// A YAML file of values; may be given several times
    #[arg(long = "vars-file", short = 'l', value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn split(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}

impl VarArgs {
    /// The values, by name.
    pub fn read(&self) -> Result<BTreeMap<String, Value>, CliError> {
        let mut vars = BTreeMap::new();
        for path in &self.files {
            let text = read_file(path)?;
            match parse(&text, &path.display().to_string())? {
                Value::Object(map) => vars.extend(map),
                Value::Null => {}
                _ => {
                    return Err(CliError::invalid(format!("{} is not a map of names to values", path.display()))
                        .hint("write lines like NAME: VALUE"));
                }
            }
        }
        for (name, text) in &self.yaml_vars {
            vars.insert(name.clone(), parse(text, &format!("--yaml-var {name}"))?);
        }
        for (name, value) in &self.vars {
            vars.insert(name.clone(), Value::String(value.clone()));
        }
        Ok(vars)
    }
}

fn parse(text: &str, place: &str) -> Result<Value, CliError> {
    let parsed = yaml::parse(text);
    if parsed.errors().next().is_some() {
        return Err(CliError::invalid(format!("{place} is not YAML")).hint(parsed.render(place, text)));
    }
    Ok(parsed.value.map_or(Value::Null, |node| node.to_json()))
}

/// Reads a text file that somebody named; `-` is standard input.
pub fn read_file(path: &Path) -> Result<String, CliError> {
    let bytes = match path.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
            bytes
        }
        false => std::fs::read(path)
            .map_err(|error| CliError::invalid(format!("{} cannot be read: {error}", path.display())))?,
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::invalid(format!("{} is not UTF-8: byte {} is none of it", path.display(), at + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vars_win_over_files_and_keep_their_type() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vars.yml");
        std::fs::write(&file, "a: 1\nb: {c: [true]}\nd: file\n").unwrap();
        let args = VarArgs {
            vars: vec![("d".into(), "1".into())],
            yaml_vars: vec![("e".into(), "[1]".into())],
            files: vec![file],
        };
        let vars = serde_json::to_value(args.read().unwrap()).unwrap();
        assert_eq!(vars, serde_json::json!({"a": 1, "b": {"c": [true]}, "d": "1", "e": [1]}));
    }

    #[test]
    fn what_is_no_map_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vars.yml");
        let args = VarArgs { files: vec![file.clone()], ..VarArgs::default() };
        assert!(args.read().unwrap_err().to_string().contains("vars.yml"));
        for text in ["- a\n", "a: [\n", "\u{0}"] {
            std::fs::write(&file, text).unwrap();
            let error = args.read().unwrap_err();
            assert!(error.to_string().contains("vars.yml"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        std::fs::write(&file, b"a: \xff\n").unwrap();
        assert!(args.read().unwrap_err().to_string().contains("byte 4"));
        assert!(split("novalue").is_err());
    }
}

//! Values that go into statements and come out of rows: integers, text, bytes and nothing, on both databases.

use holdall_engine::ids::{
    BuildId, DeploymentId, EnvironmentId, JobId, LockId, PipelineId, ResourceId, ScopeId, SystemId, TeamId,
};
use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::{Version, VersionDigest};

use crate::error::StoreError;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer, a truth value, an id, or a time in microseconds.
    Int(i64),
    /// Text, or JSON as text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// One row of a result, by position.
#[derive(Debug, Clone)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// The value at a position, as the type that is wanted.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, StoreError> {
        let value = self.0.get(index).ok_or_else(|| StoreError::Inconsistent(format!("no column {index}")))?;
        T::from_value(value)
            .ok_or_else(|| StoreError::Inconsistent(format!("column {index} holds {value:?}, which was not expected")))
    }

    /// The JSON text at a position, parsed.
    pub fn json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Result<T, StoreError> {
        let text: String = self.get(index)?;
        serde_json::from_str(&text).map_err(|error| StoreError::Inconsistent(format!("column {index}: {error}")))
    }

    /// The JSON text at a position, parsed, or `None` where it is NULL.
    pub fn opt_json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Result<Option<T>, StoreError> {
        match self.get::<Option<String>>(index)? {
            None => Ok(None),
            Some(_) => self.json(index).map(Some),
        }
    }
}

/// A type that a value can become.
pub trait FromValue: Sized {
    /// The value as this type, or `None` where it is of another kind.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<i64> {
        match value {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<bool> {
        i64::from_value(value).map(|n| n != 0)
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<String> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl FromValue for Version {
    fn from_value(value: &Value) -> Option<Version> {
        match value {
            Value::Text(text) => serde_json::from_str(text).ok(),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Option<T>> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Value {
        Value::Int(n)
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Value {
        Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Int(i64::from(b))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::Text(text.clone())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value::Blob(bytes)
    }
}

impl From<&Version> for Value {
    fn from(version: &Version) -> Value {
        Value::Text(version.canonical())
    }
}

impl From<&VersionDigest> for Value {
    fn from(digest: &VersionDigest) -> Value {
        Value::Text(digest.0.clone())
    }
}

impl FromValue for VersionDigest {
    fn from_value(value: &Value) -> Option<VersionDigest> {
        String::from_value(value).map(VersionDigest)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

macro_rules! integers {
    ($($name:ident),*) => {$(
        impl From<$name> for Value {
            fn from(id: $name) -> Value {
                Value::Int(id.0)
            }
        }

        impl FromValue for $name {
            fn from_value(value: &Value) -> Option<$name> {
                i64::from_value(value).map($name)
            }
        }
    )*};
}

integers!(
    BuildId,
    DeploymentId,
    EnvironmentId,
    JobId,
    LockId,
    PipelineId,
    ResourceId,
    ScopeId,
    SystemId,
    TeamId,
    Timestamp,
    Span
);

/// The arguments of a statement: `params![id, name]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::Value::from($value)),*] };
}

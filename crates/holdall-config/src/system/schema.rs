//! The JSON Schema of the system file, for editors. [`parse()`](super::parse()) knows more; what the schema refuses, it
//! refuses too.

use serde_json::{Value, json};

/// The schema (draft 2020-12).
pub fn schema() -> Value {
    let name = json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]*$", "maxLength": 100 });
    let duration = json!({
        "type": "string",
        "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+$",
        "description": "A duration such as 90s, 10m or 1h30m"
    });
    let steps =
        json!({ "type": "array", "minItems": 1, "items": { "type": "object" }, "description": "Steps of a pipeline" });
    let services = json!({ "type": "array", "items": name, "description": "The services whose artifacts the steps see; all, where it is left out" });
    let plan_map = json!({
        "type": "object",
        "required": ["plan"],
        "additionalProperties": false,
        "properties": { "plan": steps, "services": services }
    });
    let plan = json!({ "oneOf": [steps, plan_map] });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdall system",
        "type": "object",
        "required": ["system", "services", "environments"],
        "additionalProperties": false,
        "patternProperties": { "^x-": {} },
        "properties": {
            "system": name,
            "services": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": name,
                "additionalProperties": {
                    "type": "object",
                    "required": ["type"],
                    "additionalProperties": false,
                    "properties": {
                        "type": { "type": "string", "description": "The resource type of its versions: git, registry-image, ..." },
                        "source": { "type": "object", "description": "Where its versions are" },
                        "repository": { "type": "string", "description": "Where its code is, for change lists" },
                        "trigger": { "type": "boolean", "description": "Whether a new version packs a bag by itself", "default": true },
                        "check_every": { "oneOf": [duration, { "const": "never" }] },
                        "webhook_token": { "type": "string" },
                        "old_name": name
                    }
                }
            },
            "environments": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": name,
                "additionalProperties": environment(&name, &duration, &plan, &plan_map, &steps)
            }
        }
    })
}

fn environment(name: &Value, duration: &Value, plan: &Value, plan_map: &Value, steps: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["deploy"],
        "additionalProperties": false,
        "properties": {
            "pack": { "type": "boolean", "description": "Bags are packed here" },
            "after": {
                "oneOf": [name, { "type": "array", "minItems": 1, "items": name }],
                "description": "What must have passed a bag before it comes here"
            },
            "team": name,
            "old_name": name,
            "services": {
                "type": "object",
                "description": "What is different about services where bags are packed",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "source": { "type": "object" },
                        "trigger": { "type": "boolean" },
                        "check_every": { "oneOf": [duration, { "const": "never" }] }
                    }
                }
            },
            "stop": {
                "type": "object",
                "required": ["grace"],
                "additionalProperties": false,
                "description": "How deploy steps are stopped: one signal, a grace, then KILL",
                "properties": {
                    "signal": { "enum": ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"], "default": "TERM" },
                    "grace": duration
                }
            },
            "deploy": {
                "description": "What deploys a bag: steps, or named lists of them, one job each",
                "oneOf": [plan, { "type": "object", "minProperties": 1, "additionalProperties": plan }]
            },
            "tests": {
                "type": "object",
                "description": "Suites, in order",
                "additionalProperties": { "oneOf": [steps, {
                    "type": "object",
                    "required": ["plan"],
                    "additionalProperties": false,
                    "properties": {
                        "plan": plan_map["properties"]["plan"],
                        "services": plan_map["properties"]["services"],
                        "own_job": { "type": "boolean" }
                    }
                }] }
            },
            "periodic": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["every", "plan"],
                    "additionalProperties": false,
                    "properties": {
                        "every": duration,
                        "plan": plan_map["properties"]["plan"],
                        "services": plan_map["properties"]["services"]
                    }
                }
            },
            "on_start": plan,
            "on_passed": plan,
            "on_failed": plan,
            "tags": { "type": "array", "items": { "type": "string" } },
            "timeout": duration,
            "vars": { "type": "object", "description": "Values of ((vars)) in this environment" },
            "superseding": { "enum": ["latest", "queue"], "default": "latest" },
            "promotion": { "enum": ["automatic", "manual"], "default": "automatic" },
            "lock": {
                "type": "object",
                "required": ["allow"],
                "additionalProperties": false,
                "properties": { "allow": { "type": "array", "items": { "type": "string", "pattern": "^[^/]+/[^/]+$" } } }
            }
        }
    })
}

//! Reads what crio-erofs makes as Kata does, with Kata's own code.
//!
//!     kata-agent initdata ANNOTATION     prints the digest (base64) and the entries of an annotation with init data
//!     kata-agent policy FILE < REQUESTS  prints for every request, a line each, whether the policy allows it
//!     kata-agent options VOLUME VERITY   prints the options that runtime-rs makes of a volume and its .dmverity file
//!
//! ANNOTATION is the name of a file.

use std::{fs, io};

use anyhow::{bail, Context, Result};
use kata_agent_policy::policy::{AgentPolicy, PolicyCopyFileRequest};
use kata_types::{gpt_disk, initdata};
use protocols::agent::{CreateContainerRequest, CreateSandboxRequest};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["initdata", file] => print_initdata(&fs::read_to_string(file)?),
        ["policy", file] => check_requests(&fs::read_to_string(file)?).await,
        ["options", volume, verity] => print_options(volume, verity),
        _ => bail!("usage: kata-agent initdata FILE | policy FILE | options VOLUME VERITY"),
    }
}

fn print_initdata(annotation: &str) -> Result<()> {
    let toml = initdata::add_hypervisor_initdata_overrides(annotation)?;
    let digest = initdata::calculate_initdata_digest(&toml, initdata::ProtectedPlatform::NoProtection)?;
    let parsed = initdata::decode_initdata(annotation)?;
    println!("{}", serde_json::json!({"digest": digest, "data": parsed.data()}));
    Ok(())
}

fn print_options(volume: &str, verity: &str) -> Result<()> {
    let metadata = gpt_disk::parse_dmverity_metadata_file(verity)?;
    let options = gpt_disk::generate_dmverity_options(&metadata, Some(volume));
    println!("{}", serde_json::to_string(&options)?);
    Ok(())
}

#[derive(Deserialize)]
struct Request {
    rule: String,
    input: Value,
}

async fn check_requests(policy: &str) -> Result<()> {
    let mut agent = AgentPolicy::new();
    agent.set_policy(policy).await.context("set policy")?;
    for line in io::stdin().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let input = as_sent(&request)?;
        let (allowed, _) = agent.allow_request(&request.rule, &input).await?;
        println!("{allowed}");
    }
    Ok(())
}

/// What the agent gives the policy: the message's own JSON. What the message does not have is lost on the way.
fn as_sent(request: &Request) -> Result<String> {
    match request.rule.as_str() {
        "CreateContainerRequest" => through::<CreateContainerRequest>(&request.input),
        "CreateSandboxRequest" => through::<CreateSandboxRequest>(&request.input),
        "CopyFileRequest" => through::<PolicyCopyFileRequest>(&request.input),
        _ => Ok(request.input.to_string()),
    }
}

fn through<T: DeserializeOwned + Serialize>(input: &Value) -> Result<String> {
    let message: T = serde_json::from_value(input.clone()).with_context(|| input.to_string())?;
    Ok(serde_json::to_string(&message)?)
}

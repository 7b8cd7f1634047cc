//! Registers the message in a file with Trustee's reference value provider service, which keeps it in a directory as it does
//! by default, and prints the values of the names given as an object.
//!
//!     rvps MESSAGE DIRECTORY NAME...

use std::{fs, sync::Arc};

use anyhow::{Context, Result};
use key_value_storage::local_fs::{Config, LocalFs};
use reference_value_provider_service::Rvps;
use serde_json::{Map, Value};

const USAGE: &str = "usage: rvps MESSAGE DIRECTORY NAME...";

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let message = fs::read_to_string(args.next().context(USAGE)?)?;
    let dir_path = args.next().context(USAGE)?;
    let storage = LocalFs::new(Config { dir_path }, "reference_value")?;
    let mut rvps = Rvps::new_with_storage(None, Arc::new(storage)).await?;
    rvps.verify_and_extract(&message).await?;
    let mut values = Map::new();
    for name in args {
        let value = rvps.query_reference_value(&name).await?;
        values.insert(name, value.unwrap_or(Value::Null));
    }
    println!("{}", Value::Object(values));
    Ok(())
}

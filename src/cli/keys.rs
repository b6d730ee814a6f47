//! `greffier keys`: the keys that seal bundles and sign receipts.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::render;
use crate::model::Lang;
use crate::seal::keys::VARIABLE;
use crate::seal::{KeySet, SealKey};

/// Options of `keys`.
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeysCommand {
    /// Make a private key (a JWK with an Ed25519 key)
    New {
        /// Write it to this new file, readable by its owner only; without it, to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the key set (JWKS) to publish: the public halves of these keys
    Public {
        /// Private keys, public keys and older key sets; without any, the key in `GREFFIER_SEAL_KEY`
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Runs `keys`.
///
/// # Errors
/// A key that cannot be read, made or written.
pub fn run(args: &KeysArgs, lang: Lang) -> anyhow::Result<ExitCode> {
    match &args.command {
        KeysCommand::New { out } => {
            let key = SealKey::generate()?;
            match out {
                Some(path) => key.write_new(path).with_context(|| format!("SEAL-KEY-WRITE: cannot write {}", path.display()))?,
                None => render::print_line(&key.to_jwk())?,
            }
            let (fr, en) = ("nouvelle clé", "new key");
            anstream::eprintln!("{} {}", if lang == Lang::Fr { fr } else { en }, key.kid());
        }
        KeysCommand::Public { files } => {
            let mut keys = KeySet::default();
            for file in files {
                keys.extend(KeySet::from_any_file(file)?);
            }
            if files.is_empty() {
                let key = SealKey::from_environment()?;
                let key = key.with_context(|| format!("SEAL-KEY-NONE: name a key file, or set {VARIABLE}"))?;
                keys.add(key.public().clone());
            }
            render::print_line(&keys.to_jwks())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

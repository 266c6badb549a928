//! Contexts, which are a matter of this machine alone.

use std::path::Path;

use serde::Serialize;

use crate::contexts::{Context, Contexts};
use crate::error::Error;
use crate::flags::{ContextVerb, Global};
use crate::output::Screen;
use crate::render::table::table;
use crate::render::{or_none, yes};
use crate::settings::checked;

/// What was done to which context.
#[derive(Serialize)]
struct Done<'a> {
    context: &'a str,
}

pub(super) fn run(verb: &ContextVerb, flags: &Global, path: &Path, screen: Screen) -> Result<(), Error> {
    let mut contexts = Contexts::read(path)?;
    let (name, told) = match verb {
        ContextVerb::List => return screen.show(&contexts, listed),
        ContextVerb::Use { name } => {
            contexts.named(name)?;
            contexts.current = Some(name.clone());
            (name, format!("{name} is the current context"))
        }
        ContextVerb::Set { name } => {
            contexts.contexts.insert(name.clone(), given(flags)?);
            // The first one is what is meant from now on.
            contexts.current.get_or_insert_with(|| name.clone());
            (name, format!("context {name} is set"))
        }
        ContextVerb::Remove { name } => {
            contexts.named(name)?;
            contexts.contexts.remove(name);
            contexts.current.take_if(|current| current == name);
            (name, format!("context {name} is removed"))
        }
    };
    contexts.write(path)?;
    screen.show(&Done { context: name }, |_| told)
}

/// The context that the options describe.
fn given(flags: &Global) -> Result<Context, Error> {
    if flags.password.is_some() {
        let message = "a context keeps no password, only the name of a file with one: --password-file";
        return Err(Error::Usage(message.to_owned()));
    }
    let endpoints: Vec<_> =
        flags.endpoint.iter().map(|endpoint| checked(endpoint)).collect::<Result<_, _>>()?;
    if endpoints.is_empty() {
        return Err(Error::Usage("a context needs --endpoint".to_owned()));
    }
    // A context is used in other directories than the one where it was made.
    let absolute = |path: &Option<std::path::PathBuf>| path.as_ref().map(std::path::absolute).transpose();
    Ok(Context {
        endpoints,
        user: flags.user.clone(),
        password_file: absolute(&flags.password_file)?,
        ssl: flags.ssl,
        tls_ca_cert: absolute(&flags.tls_ca_cert)?,
        tls_cert: absolute(&flags.tls_cert)?,
        tls_key: absolute(&flags.tls_key)?,
    })
}

fn listed(contexts: &Contexts) -> String {
    let rows: Vec<_> = contexts
        .contexts
        .iter()
        .map(|(name, context)| {
            let star = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
            let user = context.user.as_deref().unwrap_or_default();
            vec![star.to_owned(), name.clone(), context.endpoints.join(","), or_none(user), yes(context.ssl)]
        })
        .collect();
    table(&["", "NAME", "ENDPOINTS", "USER", "TLS"], &rows)
}

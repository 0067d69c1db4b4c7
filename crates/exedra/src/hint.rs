//! Finds the advice that an error carries, whichever crate it comes from.
//!
//! In flows an error with its causes, out flows at most one sentence. The outermost error that has advice wins.

use std::error::Error;

use exedra_executor::ExecutorError;
use exedra_executor::audit::AuditError;
use exedra_executor::credential::CredentialError;
use exedra_host::policy::PolicyError;
use exedra_registry::RegistryError;
use exedra_rendezvous::RendezvousError;

/// What the user can do about `error`.
pub fn of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(advice)
}

fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    macro_rules! first_of {
        ($($kind:ty),+) => {
            $(if let Some(error) = error.downcast_ref::<$kind>() {
                return error.hint().map(str::to_owned);
            })+
        };
    }
    first_of!(
        exedra_client::Error,
        exedra_link::LinkError,
        exedra_link::error::RegisterError,
        ExecutorError,
        AuditError,
        CredentialError,
        PolicyError,
        RegistryError,
        RendezvousError
    );
    None
}

//! A value that cannot be printed.

use std::fmt;

/// A signing secret or key. It has no `Display`, no `Serialize` and no `Clone`, and its `Debug`
/// says nothing.
///
/// ```compile_fail
/// let secret = paidup::base::secret::Secret::new("whsec_1");
/// println!("{secret}"); // `Secret` doesn't implement `Display`
/// ```
pub struct Secret(Box<str>);

impl Secret {
    /// Keeps `text` as it is, byte for byte.
    #[must_use]
    pub fn new(text: &str) -> Secret {
        Secret(text.into())
    }

    /// The text itself, to compute with. Never print it.
    #[must_use]
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

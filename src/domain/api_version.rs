//! Which shape of Stripe's API an event or an endpoint has.

/// A version of Stripe's API: a date, since 2024-09-30 with the name of a release behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersion(Box<str>);

impl ApiVersion {
    /// `YYYY-MM-DD` or `YYYY-MM-DD.name`, else `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let (date, name) = match text.split_once('.') {
            Some((date, name)) => (date, Some(name)),
            None => (text, None),
        };
        let date_fits = date.len() == 10
            && date.bytes().enumerate().all(|(index, byte)| match index {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let name_fits = name.is_none_or(|name| {
            (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        (date_fits && name_fits).then(|| ApiVersion(text.into()))
    }

    /// The whole version, as the `Stripe-Version` header has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the release, within which Stripe changes nothing that could break us
    /// (<https://docs.stripe.com/api/versioning>). A version from before there were names is its
    /// own release.
    #[must_use]
    pub fn release(&self) -> &str {
        self.0.split_once('.').map_or(&self.0, |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_version_is_a_date_with_or_without_a_release() {
        for (good, release) in [
            ("2026-10-28.endive", "endive"),
            ("2025-03-31.preview", "preview"),
            ("2024-06-20", "2024-06-20"),
        ] {
            let version = ApiVersion::parse(good).unwrap();
            assert_eq!((version.as_str(), version.release()), (good, release));
        }
        let long = format!("2026-10-28.{}", "a".repeat(33));
        for bad in [
            "",
            "endive",
            "2026-10-28.",
            "2026-10-28.a.b",
            "2026-10-28 ",
            "26-10-28",
            "2026/10/28",
            "2026-10-281",
            "v2026-10-28",
            "2026-10-28.ada@x",
            "2026-é-28",
            &long,
        ] {
            assert_eq!(ApiVersion::parse(bad), None, "{bad}");
        }
    }
}

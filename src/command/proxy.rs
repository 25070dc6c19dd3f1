//! The files of the proxy in front, filled in for a host: what systemd/nginx.conf and systemd/Caddyfile say,
//! and what the latter says of Debian's Caddy.

const NGINX: &str = include_str!("../../systemd/nginx.conf");
const CADDY: &str = include_str!("../../systemd/Caddyfile");
/// The host of the shipped files.
const EXAMPLE: &str = "hooks.example.com";

/// One of the proxies.
pub(crate) struct ProxyFile {
    /// Where the filled-in file is kept.
    pub(crate) path: &'static str,
    /// Which proxy it is for.
    pub(crate) what: &'static str,
    /// What puts it to use; `HOST` stands for the host.
    install: &'static str,
    shipped: fn() -> String,
}

/// Which of them is used is the operator's choice.
pub(crate) const PROXY_FILES: [ProxyFile; 3] = [
    ProxyFile {
        path: "/etc/paidup/proxy/Caddyfile-2.6",
        what: "Debian's Caddy (2.6)",
        install: "sudo apt-get install caddy && sudo cp /etc/paidup/proxy/Caddyfile-2.6 /etc/caddy/Caddyfile && sudo \
                  systemctl reload caddy",
        shipped: || {
            CADDY.replace(
                "request_buffers 512KB\n",
                "buffer_requests\n\t\t\tmax_buffer_size 512KB\n",
            )
        },
    },
    ProxyFile {
        path: "/etc/paidup/proxy/Caddyfile",
        what: "a current Caddy (2.7 or newer)",
        install: "sudo cp /etc/paidup/proxy/Caddyfile /etc/caddy/Caddyfile && sudo systemctl reload caddy",
        shipped: || CADDY.to_owned(),
    },
    ProxyFile {
        path: "/etc/paidup/proxy/nginx.conf",
        what: "nginx, Debian's (12 or newer) and current ones",
        install: "sudo apt-get install nginx certbot python3-certbot-nginx && sudo certbot certonly --nginx -d HOST \
                  --deploy-hook 'systemctl reload nginx' && sudo cp /etc/paidup/proxy/nginx.conf \
                  /etc/nginx/conf.d/paidup.conf && sudo systemctl reload nginx",
        shipped: || NGINX.to_owned(),
    },
];

impl ProxyFile {
    /// The file as it is shipped, for this host.
    pub(crate) fn text(&self, host: &str) -> String {
        let text = (self.shipped)().replace(EXAMPLE, host);
        text.replace(
            &format!("# Replace {host} and the two certificate paths.\n"),
            "",
        )
        .replace(&format!(" Replace {host}."), "")
    }

    /// The same for a terminal: what it is for, how it is put to use, and the lines that are no comments.
    pub(crate) fn shown(&self, host: &str) -> String {
        let text = self.text(host);
        let lines = text.lines().filter(|line| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#')
        });
        let lines: Vec<String> = lines
            .map(|line| format!("    {}\n", line.replace('\t', "  ")))
            .collect();
        let (what, install) = (self.what, self.install.replace("HOST", host));
        format!("\n{what}:\n{}\n  {install}\n", lines.concat())
    }
}

/// A name that others can reach, in lower case, without scheme and path.
pub(crate) fn host(text: &str) -> Option<String> {
    let host = text.strip_prefix("https://").unwrap_or(text);
    let host = host.trim_end_matches('/').to_ascii_lowercase();
    let is_label = |label: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.chars().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (host.contains('.') && host.len() <= 253 && host.split('.').all(is_label)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_the_shipped_one_for_the_host_with_nothing_left_to_replace() {
        for proxy in PROXY_FILES {
            let text = proxy.text("pay.coffee.example");
            assert!(
                !text.contains(EXAMPLE) && !text.contains("Replace"),
                "{text}"
            );
            assert!(text.contains("pay.coffee.example"), "{text}");
            let shown = proxy.shown("pay.coffee.example");
            assert!(!shown.contains('#') && !shown.contains("HOST"), "{shown}");
            assert!(shown.contains(proxy.path), "{shown}");
        }
        let [debians, current, _] = PROXY_FILES.map(|proxy| proxy.text("a.example"));
        assert!(debians.contains("\n\t\t\tbuffer_requests\n\t\t\tmax_buffer_size 512KB\n"));
        assert!(!debians.contains("\trequest_buffers"), "{debians}");
        assert!(current.contains("\n\t\t\trequest_buffers 512KB\n"));
    }

    #[test]
    fn a_host_is_a_name_with_a_dot() {
        for good in [
            "hooks.example.com",
            "https://hooks.example.com/",
            "Hooks.Example.COM",
        ] {
            assert_eq!(host(good).as_deref(), Some("hooks.example.com"), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "http://a.example",
            "a.example/x",
            "a b.example",
            "a.example;",
            "-a.example",
            "a..b",
        ] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}

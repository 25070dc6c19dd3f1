//! The statuses that we answer.

/// The reason is optional and nobody reads it, so an unknown status has none.
pub(super) fn reason(status: u16) -> &'static str {
    let known = STATUSES.iter().find(|(known, _)| *known == status);
    known.map_or("", |(_, reason)| reason)
}

/// Every status that we answer, with its reason: <https://www.rfc-editor.org/rfc/rfc9110#section-15>.
pub(super) const STATUSES: [(u16, &str); 23] = [
    (200, "OK"),
    (201, "Created"),
    (303, "See Other"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (408, "Request Timeout"),
    (409, "Conflict"),
    (411, "Length Required"),
    (413, "Content Too Large"),
    (414, "URI Too Long"),
    (417, "Expectation Failed"),
    (421, "Misdirected Request"),
    (422, "Unprocessable Content"),
    (429, "Too Many Requests"),
    (431, "Request Header Fields Too Large"),
    (500, "Internal Server Error"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Gateway Timeout"),
    (505, "HTTP Version Not Supported"),
];

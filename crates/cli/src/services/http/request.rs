//! The head of a request (RFC 9112).

/// Longest head, in bytes.
pub const MAX_HEAD: usize = 16 << 10;

/// Most bytes that `/bytes/N` gives.
const MAX_BYTES: u64 = 1 << 30;

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As asked.
    Ok,
    /// It is malformed.
    BadRequest,
    /// There is no such thing.
    NotFound,
    /// Only GET and HEAD are known.
    MethodNotAllowed,
    /// The body is longer than anything that is taken here.
    BodyTooLarge,
    /// The head is longer than [`MAX_HEAD`].
    HeadTooLarge,
    /// The body comes in an encoding that is not known here.
    NotImplemented,
    /// Neither HTTP/1.1 nor 1.0.
    VersionNotSupported,
}

impl Status {
    /// Code and reason.
    pub const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::BodyTooLarge => "413 Content Too Large",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The thing itself.
    Get,
    /// What would be said of it.
    Head,
    /// Anything else.
    Other,
}

/// What of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/`.
    Page,
    /// `/bytes/N`.
    Bytes(u64),
    /// Nothing that there is.
    Nothing,
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// What it names.
    pub target: Target,
    /// Whether the connection goes on after it.
    pub keep_alive: bool,
    /// Bytes of its body.
    pub body: u64,
}

impl Request {
    /// Reads a head off the beginning of `bytes` and says how long it is; none if it is not all there.
    ///
    /// # Errors
    /// The status that answers what is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Status> {
        // RFC 9112 section 2.2: empty lines before a request are passed over.
        let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let Some(len) = head_len(&bytes[empty..]) else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[empty..empty + len]).map_err(|_| Status::BadRequest)?;
        let mut lines = head.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let (method, target, minor) = request_line(lines.next().unwrap_or_default())?;
        let mut fields = Fields::default();
        for line in lines.take_while(|line| !line.is_empty()) {
            fields.learn(line)?;
        }
        // RFC 9112 section 3.2: a request of HTTP/1.1 names its host once.
        if minor == 1 && fields.hosts != 1 || fields.hosts > 1 {
            return Err(Status::BadRequest);
        }
        let keep_alive = !fields.close && (minor == 1 || fields.keep_alive);
        let request = Request { method, target, keep_alive, body: fields.length.unwrap_or(0) };
        Ok(Some((request, empty + len)))
    }
}

/// Bytes up to and with the empty line that ends a head; a bare line feed ends a line as well.
fn head_len(bytes: &[u8]) -> Option<usize> {
    let mut line_begin = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            if matches!(&bytes[line_begin..at], b"" | b"\r") {
                return Some(at + 1);
            }
            line_begin = at + 1;
        }
    }
    None
}

/// Method, target and minor version.
fn request_line(line: &str) -> Result<(Method, Target, u8), Status> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(Status::BadRequest);
    }
    let minor = match version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        other if other.starts_with("HTTP/") => return Err(Status::VersionNotSupported),
        _ => return Err(Status::BadRequest),
    };
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => Method::Other,
    };
    Ok((method, target_of(path(target)?), minor))
}

/// The path of a target: of the origin form, or of the absolute form that proxies are sent (RFC 9112 section 3.2).
fn path(target: &str) -> Result<&str, Status> {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    let path = path.split('?').next().unwrap_or_default();
    if path.starts_with('/') || path == "*" { Ok(path) } else { Err(Status::BadRequest) }
}

fn target_of(path: &str) -> Target {
    match path.strip_prefix("/bytes/").map(str::parse) {
        None if path == "/" => Target::Page,
        Some(Ok(n)) if n <= MAX_BYTES => Target::Bytes(n),
        _ => Target::Nothing,
    }
}

/// What the fields say of where a request ends and whether another may follow.
#[derive(Default)]
struct Fields {
    hosts: u32,
    close: bool,
    keep_alive: bool,
    length: Option<u64>,
}

impl Fields {
    fn learn(&mut self, line: &str) -> Result<(), Status> {
        let (name, value) = line.split_once(':').ok_or(Status::BadRequest)?;
        // Blanks around the name, as a line that goes on with the one before begins, hide fields from proxies.
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Status::BadRequest);
        }
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(',').map(str::trim) {
                self.close |= option.eq_ignore_ascii_case("close");
                self.keep_alive |= option.eq_ignore_ascii_case("keep-alive");
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let length = value.parse().ok().filter(|_| digits).ok_or(Status::BadRequest)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Status::BadRequest);
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Status::NotImplemented);
        }
        Ok(())
    }
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<(Request, usize)>, Status> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn the_head_ends_with_its_empty_line() {
        let text = "\r\nGET /bytes/7?b HTTP/1.1\r\nHost: x\r\n\r\nbody";
        let (request, len) = parsed(text).expect("sound").expect("all there");
        assert_eq!((request.method, request.target), (Method::Get, Target::Bytes(7)));
        assert_eq!((request.keep_alive, request.body), (true, 0));
        assert_eq!(&text[len..], "body");
        for cut in 0..text.len() - "body".len() {
            assert_eq!(parsed(&text[..cut]), Ok(None), "{cut}");
        }
        let bare = parsed("HEAD http://x HTTP/1.1\nhost: x\n\n").expect("sound").expect("all there");
        assert_eq!((bare.0.method, bare.0.target), (Method::Head, Target::Page));
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for (head, status) in [
            ("GET / HTTP/1.1", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b", Status::BadRequest),
            ("GET  / HTTP/1.1\r\nHost: a", Status::BadRequest),
            ("GET /\r\nHost: a", Status::BadRequest),
            ("GET x HTTP/1.1\r\nHost: a", Status::BadRequest),
            ("G(T / HTTP/1.1\r\nHost: a", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded: x", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : a", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nnothing", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", Status::NotImplemented),
            ("GET / HTTP/3\r\nHost: a", Status::VersionNotSupported),
        ] {
            assert_eq!(parsed(&format!("{head}\r\n\r\n")), Err(status), "{head}");
        }
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic() {
        // A fixed generator: the same bytes in every run.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let sound = b"POST /bytes/7?x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nConnection: a, close\r\n\r\n";
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut bytes = sound.to_vec();
            for _ in 0..random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() % (2 * bytes.len()));
            refused += u32::from(Request::parse(&bytes).is_err());
        }
        assert!(refused > 1_000, "{refused}");
    }
}

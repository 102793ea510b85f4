"""Scalars of the configuration: text -> value, or ValueError with a sentence that says what would be right."""

import os.path
import re
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

UNIT_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000}
UNIT_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us))+")
DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us)")
SIZE = re.compile(r"([0-9]{1,18})([A-Za-z]*)")
INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
UNIX_LONGEST = 107              # sizeof(sun_path) - 1
NAME = re.compile(r"[!#$%&'()*+,\-./0-9:;<=>?@A-Z^_`a-z{|}~]{1,255}")     # printable ASCII without " \ [ ]
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")                       # RFC 9110 5.6.2
FIELD_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")                 # RFC 9110 5.5, without obs-text
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
PATH = re.compile(r"/[!$&'()*+,\-./0-9:;=@A-Z_a-z~%\"<>^`{|}\[\]]*")       # RFC 3986, and what clients send all the same
DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2[eE]){1,2}(?:;[^/]*)?(?=/|\Z)")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@lru_cache(1024)
def duration(text):
    """'250ms', '5s', '1h30m', '0.5s' -> seconds."""
    if not DURATION.fullmatch(text):
        if INTEGER.fullmatch(text):
            raise ValueError(f"a duration needs a unit: {text}s or {text}ms")
        raise ValueError("expected a duration such as 250ms, 5s, 1h or 1h30m")
    total = 0
    for number, unit in DURATION_PART.findall(text):
        whole, _, rest = number.partition(".")
        total += int(whole) * UNIT_NS[unit] + (int(rest) * UNIT_NS[unit] // 10 ** len(rest) if rest else 0)
    return total / 1e9


@lru_cache(1024)
def size(text):
    """'64KiB', '1MiB', '512B', '512' -> bytes."""
    found = SIZE.fullmatch(text)
    if not found:
        raise ValueError("expected a size such as 512B, 64KiB or 1MiB")
    if found[2] not in UNIT_BYTES:
        raise ValueError(f"the unit `{found[2]}` is not known: a size ends in B, KiB, MiB or GiB")
    return int(found[1]) * UNIT_BYTES[found[2]]


def port_of(text, lowest):
    if not INTEGER.fullmatch(text) or not lowest <= int(text) <= 65535:
        raise ValueError(f"the port must be a number from {lowest} to 65535, not `{text}`")
    return int(text)


def file_path(text, base=None):
    """An absolute path; a relative one is taken from `base`."""
    if not text or "\0" in text:
        raise ValueError("a path is not empty and has no NUL")
    return os.path.normpath(os.path.join(base or os.getcwd(), text))


def address(text, base=None, lowest_port=1):
    """'127.0.0.1:80', '[::1]:80', 'unix:path' -> the same in canonical form; a relative path is taken from `base`."""
    if text.startswith("unix:"):
        return "unix:" + unix_path(text[5:], base)
    if text.startswith("["):
        ip, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError("expected \"[v6]:port\"")
        if "%" in ip:
            raise ValueError("an IPv6 address with a zone (%) is not built yet")
        try:
            return f"[{inet_ntop(AF_INET6, inet_pton(AF_INET6, ip))}]:{port_of(rest[1:], lowest_port)}"
        except (OSError, UnicodeError):
            raise ValueError(f"`{ip}` is not an IPv6 address") from None
    ip, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("expected ip:port, \"[v6]:port\" or unix:/path")
    if ":" in ip:
        raise ValueError("an IPv6 address stands in brackets and quotes: \"[::1]:8080\"")
    number = port_of(port, lowest_port)
    if ip in ("", "*"):
        raise ValueError(f"write 0.0.0.0:{port} for all IPv4 addresses, or \"[::]:{port}\" for all IPv6 addresses")
    try:
        inet_pton(AF_INET, ip)
    except (OSError, UnicodeError):
        if re.fullmatch(r"[0-9.]+", ip):
            raise ValueError(f"`{ip}` is not an IPv4 address") from None
        raise ValueError(f"`{ip}` is a name; write an IP address" + (", 127.0.0.1 or \"[::1]\"" if ip == "localhost" else "")
                         + (f", or endpoints: {{dns: {{name: {ip}, port: {number}}}}}" if lowest_port else "")) from None
    return f"{ip}:{number}"


def unix_path(path, base):
    if not path:
        raise ValueError("expected unix:/path")
    if path.startswith("@"):
        raise ValueError("abstract Unix sockets (unix:@name) are not built yet")
    if not path.isprintable():
        raise ValueError("a path of a socket has printable characters only")
    if base is not None and not path.startswith("/"):
        path = os.path.normpath(os.path.join(base, path))
    if len(os.fsencode(path)) > UNIX_LONGEST:
        raise ValueError(f"the path `{path}` has {len(os.fsencode(path))} bytes; a Unix socket's has at most {UNIX_LONGEST}")
    return path


def resolver(text):
    if text.startswith("unix:"):
        raise ValueError("a DNS server is asked over UDP and TCP: ip:port")
    try:
        return address(text)
    except ValueError as error:
        raise ValueError(str(error).partition(", or endpoints:")[0]) from None


def dns_name(text):
    if text.startswith("[") or re.fullmatch(r"[0-9.]+", text):
        raise ValueError("an IP address needs no look-up: write it in a list")
    return host(text) + ("." if text.endswith(".") else "")


def name(text):
    if not NAME.fullmatch(text):
        raise ValueError("a name has 1 to 255 printable ASCII characters, without blanks, quotes, backslash and square brackets")
    return text


def token(text):
    if not TOKEN.fullmatch(text) or len(text) > 128:
        raise ValueError("expected a word of letters, digits and !#$%&'*+-.^_`|~")
    return text


def field_value(text):
    if len(text) > 8192:
        raise ValueError("a field value has at most 8192 bytes")
    if not FIELD_VALUE.fullmatch(text):
        raise ValueError("a field value has printable ASCII characters, without line ends and without blanks at either end")
    return text


def path(text):
    if not text.startswith("/"):
        raise ValueError("a path begins with /")
    if "?" in text or "#" in text:
        raise ValueError("a path is without query and fragment" + ("; use match.query" if "?" in text else ""))
    if len(text) > 8192:
        raise ValueError("a path has at most 8192 bytes")
    if not PATH.fullmatch(text):
        raise ValueError("blanks, backslashes and characters beyond ASCII cannot stand in a path; percent-encode them")
    if BAD_ESCAPE.search(text):
        raise ValueError("% is followed by two hexadecimal digits")
    if DOT_SEGMENT.search(text) or re.search("%00|%5[cC]", text):
        raise ValueError("requests whose path holds a dot segment, a backslash or NUL are refused, so this could never be right")
    return text


def host(text):
    """A name, an IPv4 address or '[v6]', without a port -> lower case, without the dot at the end."""
    low = text.lower()
    low = low[:-1] if low.endswith(".") and len(low) > 1 else low
    if low.startswith("["):
        try:
            return f"[{inet_ntop(AF_INET6, inet_pton(AF_INET6, low[1:-1]))}]" if low.endswith("]") else port_of_host(text)
        except (OSError, UnicodeError):
            raise ValueError(f"`{text}` is not an IPv6 address") from None
    if re.fullmatch("[^:]+:[0-9]*", low):
        port_of_host(text)
    if not HOST_NAME.fullmatch(low):
        raise ValueError("not a host name")
    return low


def port_of_host(text):
    raise ValueError(f"a host is without a port here: `{text.rpartition(':')[0]}`")


def host_pattern(text):
    """'a.com', '*.a.com', 'a.*', '*' -> lower case."""
    if text == "*":
        return text
    if text.startswith("*."):
        return "*." + host(text[2:])
    if text.endswith(".*"):
        return host(text[:-2]) + ".*"
    if "*" in text:
        raise ValueError("* stands alone, as the first label (\"*.example.com\") or as the last (\"www.*\")")
    return host(text)


def authority(text):
    """host[:port] -> the same with the host in lower case."""
    named, colon, port = text.rpartition(":")
    if colon and "]" not in port:
        return f"{host(named)}:{port_of(port, 1)}"
    return host(text)

"""Raw request/response pairs by table (A2): every method with every way to frame a request and an answer."""

REQUESTS = {
    "GET": ["", "Accept: */*\r\n", "Cookie: a=1; b=2\r\nCookie: c=3\r\n", "X-Odd:no blank\r\n", "Range: bytes=0-1\r\nIf-None-Match: \"x\"\r\n"],
    "HEAD": ["", "Accept: text/html\r\n"], "DELETE": ["", "X-A: 1\r\n"], "OPTIONS": [""], "PROPFIND": ["Depth: 1\r\n"],
    "POST": ["Content-Length: 0\r\n", "Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "Content-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    "PUT": ["Content-Length: 3\r\n\r\n\x00\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"], "PATCH": ["Content-Length: 2\r\n\r\n{}", "Content-Length: 300\r\n\r\n" + "\xff" * 300],
}
RESPONSES = [
    "200 OK\r\nContent-Length: 3\r\n\r\nok\n", "200 OK\r\nContent-Length: 0\r\n\r\n", "200 \r\nContent-Length: 1\r\n\r\nx", "201 Created\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "204 No Content\r\nX-A: b\r\n\r\n",
    "304 Not Modified\r\nETag: \"x\"\r\n\r\n", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "404 Not Found\r\nContent-Length: 2\r\nx-Odd:no blank\r\n\r\nno", "500 Oh No\r\nContent-Length: 2\r\nRetry-After: 1\r\n\r\n\x00\r", "299 Unheard Of\r\nContent-Length: 1\r\n\r\n1",
]


def pairs():
    """(id, method, raw request, raw response) of every combination: over 200."""
    for method, rests in REQUESTS.items():
        for i, rest in enumerate(rests):
            for j, answer in enumerate(RESPONSES):
                raw = f"{method} /{i}/{j}?q=%20 HTTP/1.1\r\nHost: corpus.example\r\n{rest}" + ("" if "\r\n\r\n" in rest else "\r\n")
                if method == "HEAD":
                    answer = answer.partition("\r\n\r\n")[0] + "\r\n\r\n"
                yield f"{method}-{i}-{j}", method, raw.encode("latin-1"), b"HTTP/1.1 " + answer.encode("latin-1")

"""A DNS server on loopback, UDP and TCP: answers A and AAAA from a table that the test changes as it goes."""

import socket
import struct
import threading
import time

A, CNAME, AAAA = 1, 5, 28
RCODES = {"servfail": 2, "nxdomain": 3, "refused": 5}
UDP_MOST = 1232


class DnsServer:
    """`names`: {name: (ttl, [address, ...])}, or one of RCODES, or "silent", or (ttl, another name). What is not there is NXDOMAIN.

    `asked`: [(monotonic time, name, "A" | "AAAA")] of every question that came."""

    def __init__(self, names=None):
        self.names, self.asked, self.over_tcp = dict(names or {}), [], 0
        self.udp, self.tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
        self.tcp.bind(("127.0.0.1", 0))
        self.tcp.listen()
        self.udp.bind(self.tcp.getsockname())
        self.address = "127.0.0.1:%d" % self.udp.getsockname()[1]
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.serve_udp, self.serve_tcp)]
        for thread in self.threads:
            thread.start()

    def serve_udp(self):
        while True:
            try:
                question, client = self.udp.recvfrom(4096)
            except OSError:
                return
            if not question:
                return      # shut down
            answer = self.answer(question)
            if answer and len(answer) > UDP_MOST:
                answer = self.answer(question, cut=True)
            if answer:
                self.udp.sendto(answer, client)

    def serve_tcp(self):
        while True:
            try:
                conn, _ = self.tcp.accept()
            except OSError:
                return
            with conn, conn.makefile("rwb") as stream:
                while len(head := stream.read(2)) == 2:
                    self.over_tcp += 1
                    answer = self.answer(stream.read(int.from_bytes(head, "big")))
                    if not answer:
                        break
                    stream.write(struct.pack(">H", len(answer)) + answer)
                    stream.flush()

    def answer(self, question, cut=False):
        """The whole message (RFC 1035 4.1); `cut`: without records, to be asked for again over TCP."""
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode())
            at += question[at] + 1
        kind, = struct.unpack_from(">H", question, at + 1)
        name, asked = ".".join(labels).lower(), question[12:at + 5]
        if not cut:
            self.asked.append((time.monotonic(), name, {A: "A", AAAA: "AAAA"}.get(kind, str(kind))))
        found = self.names.get(name, "nxdomain")
        if found == "silent":
            return None
        records, code = b"", 0
        n = 0
        if isinstance(found, str):
            code = RCODES[found]
        elif not cut:
            ttl, addresses = found
            owner = b"\xc0\x0c"
            if isinstance(addresses, str):              # a CNAME, and what it leads to
                owner = b"".join(bytes([len(label)]) + label.encode() for label in addresses.split(".")) + b"\0"
                records += b"\xc0\x0c" + struct.pack(">HHIH", CNAME, 1, ttl, len(owner)) + owner
                n += 1
                ttl, addresses = self.names[addresses]
            for one in addresses:
                if (":" in one) == (kind == AAAA) and kind in (A, AAAA):
                    data = socket.inet_pton(socket.AF_INET6 if kind == AAAA else socket.AF_INET, one)
                    records += owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data
                    n += 1
        flags = 0x8180 | code | (0x0200 if cut else 0)
        return question[:2] + struct.pack(">HHHHH", flags, 1, n, 0, 0) + asked + records

    def count(self, name, kind):
        return sum(1 for _, one, what in list(self.asked) if (one, what) == (name, kind))

    def close(self):
        for sock in (self.udp, self.tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

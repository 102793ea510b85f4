"""Endpoints that are listeners of this proxy: where a request could go round for ever (A18)."""

import socket


class Loops:
    """Knows them between two configurations, so that a change looks only at what has changed."""

    def __init__(self):
        self.rows = ()          # (address, protocol, cluster) of each listener
        self.at, self.wild = {}, {}
        self.found = {}         # cluster -> {address of an endpoint: row of the listener there}
        self.marks = {}         # (cluster, address) -> "self" | "loop"

    def update(self, listeners, models, names, changed, after):
        """-> {(cluster, address): "self", "loop" or None} of what is different now. "loop": nothing but tcp listeners lies
        between the endpoint and itself, so that no header could count the rounds.

        `listeners`: (model, address as bound); `models` of all clusters, their `names`, and the `changed`: new or other;
        `after`: the fallbacks of a cluster, which count as always taken."""
        rows = tuple((address, one.protocol, one.cluster) for one, address in listeners)
        if rows != self.rows:
            self.rows, changed = rows, models
            self.at = {row[0]: row for row in rows}
            self.wild = {row[0].rsplit(":", 1)[1]: row for row in rows if row[0].startswith(("0.0.0.0:", "[::]:"))}
        for one in changed:
            here = {end.address: row for end in one.endpoints if (row := self.listener_at(end.address))}
            if here:
                self.found[one.name] = here
            else:
                self.found.pop(one.name, None)
        for name in [name for name in self.found if name not in names]:
            del self.found[name]
        marks = {(cluster, address): "loop" if self.reaches(row, cluster, frozenset(), after) else "self"
                 for cluster, here in self.found.items() for address, row in here.items()}
        other = {key: marks.get(key) for key in marks.keys() | self.marks.keys() if marks.get(key) != self.marks.get(key)}
        self.marks = marks
        return other

    def listener_at(self, address):
        if address in self.at:
            return self.at[address]
        if self.wild and not address.startswith("unix:"):
            row = self.wild.get(address.rsplit(":", 1)[1])
            if row and is_local(address):
                return row
        return None

    def reaches(self, row, goal, seen, after):
        """Whether a tcp listener leads to the cluster `goal` over tcp listeners."""
        address, protocol, cluster = row
        if protocol != "tcp" or address in seen:
            return False
        clusters = cluster, *after.get(cluster, ())
        return goal in clusters or any(self.reaches(other, goal, seen | {address}, after)
                                       for one in clusters for other in self.found.get(one, {}).values())


def is_local(address):
    """Whether the IP address is one of this machine: it can be bound to."""
    ip = address.rsplit(":", 1)[0].strip("[]")
    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
        return True
    except OSError:
        return False

"""Formats of the access log: text with Envoy's operators, `%OPERATOR%` or `%OPERATOR(ARGUMENT):BYTES%`, and JSON made of such texts."""

import re
from typing import Union

import msgspec
from msgspec import Struct

# Envoy's default format, so that what reads its logs reads these.
DEFAULT = ('[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% '
           '%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n')
DEFAULT_JSON = {
    "start_time": "%START_TIME%", "listener": "%LISTENER%", "route": "%ROUTE_NAME%", "cluster": "%UPSTREAM_CLUSTER%", "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%", "path": "%REQ(:PATH)%", "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%", "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%", "hop": "%HOP%", "bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "upstream_host": "%UPSTREAM_HOST%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%"}
OPERATORS = {
    "START_TIME": "START_TIME", "PROTOCOL": "PROTOCOL", "RESPONSE_CODE": "STATUS", "RESPONSE_FLAGS": "FLAGS", "RESPONSE_CODE_DETAILS": "DETAILS", "HOP": "HOP",
    "BYTES_RECEIVED": "RECEIVED", "BYTES_SENT": "SENT", "DURATION": "DURATION", "REQUEST_DURATION": "REQUEST_DURATION", "RESPONSE_DURATION": "RESPONSE_DURATION",
    "UPSTREAM_HOST": "UPSTREAM", "UPSTREAM_REMOTE_ADDRESS": "UPSTREAM", "UPSTREAM_CLUSTER": "CLUSTER", "ROUTE_NAME": "ROUTE", "LISTENER": "LISTENER",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": "ATTEMPTS", "DOWNSTREAM_REMOTE_ADDRESS": "REMOTE", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": "REMOTE",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": "REMOTE_IP", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": "REMOTE_IP"}
FIELDS = {"REQ": "request", "REQUEST_HEADER": "request", "RESP": "response", "RESPONSE_HEADER": "response"}
PSEUDO = (":method", ":path", ":authority")     # what is noted of each request, in this order
MAX_FIELDS = 32                                 # of either head
PLAIN, JSON, JSON_INNER = range(3)              # log_style of core/log_format.pyx
STEP = re.compile(r"%(?:%|([A-Z0-9_]+)(?:\(((?:[^()%]|%[A-Za-z0-9])*)\))?(?::([0-9]{1,4}))?%)|%")
FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
TIME_FORMAT = re.compile(r"(?:[^%]|%[aAbBdDeFHIjmMpSTyYZz])*")


class Format(Struct, frozen=True, kw_only=True):
    """`steps`: [(op, style, field, other, most, text)], op by its name in core/log_format.pyx; a field is a place among what is noted:
    PSEUDO, then `request`, then `response` (names in lower case)."""
    steps: list
    request: list
    response: list
    source: Union[str, dict]    # what it was made of


def quoted(text):
    """As a JSON string."""
    return msgspec.json.encode(text).decode()


class Builder:
    def __init__(self):
        self.steps, self.fields = [], {"request": [], "response": []}

    def text(self, text):
        if text:
            self.steps.append(("TEXT", PLAIN, None, None, 0, text.encode()))

    def field(self, side, name):
        """(side, place)"""
        name = name.strip().lower()
        if name in PSEUDO and side == "request":
            return "pseudo", PSEUDO.index(name)
        if not FIELD_NAME.fullmatch(name):
            raise ValueError(f"`{name}` is not the name of a header field" + (f"; there are {', '.join(PSEUDO)}" if name.startswith(":") else ""))
        known = self.fields[side]
        if name not in known:
            if len(known) == MAX_FIELDS:
                raise ValueError(f"more than {MAX_FIELDS} header fields")
            known.append(name)
        return side, known.index(name)

    def operator(self, name, argument, most, style):
        most = int(most or 0)
        if name in FIELDS:
            side, (first, _, second) = FIELDS[name], (argument or "").partition("?")
            if side == "response" and first.lower() == "x-envoy-upstream-service-time":
                return self.steps.append(("UPSTREAM_TIME", style, None, None, 0, b""))
            place = self.field(side, first)
            other = self.field(side, second) if second else None
            op = "REQUEST_ID" if (side, first.lower()) == ("request", "x-request-id") else "NOTED"
            return self.steps.append((op, style, place, other, most, b""))
        if name not in OPERATORS:
            raise ValueError(f"unknown operator %{name}%; there are {', '.join(sorted([*OPERATORS, *(one + '(NAME)' for one in FIELDS)]))}")
        if argument is not None and name != "START_TIME":
            raise ValueError(f"%{name}% takes no argument")
        if argument and not TIME_FORMAT.fullmatch(argument):
            raise ValueError(f"%START_TIME({argument})%: a format of strftime without fractions of a second")
        self.steps.append((OPERATORS[name], style, None, None, most, (argument or "").encode()))

    def format(self, text, style):
        at = 0
        for found in STEP.finditer(text):
            self.literal(text[at:found.start()], style)
            at = found.end()
            if found[0] == "%%":
                self.literal("%", style)
            elif found[1] is None:
                raise ValueError(f"`{text[found.start():found.start() + 20]}`: a % that begins no operator is written %%")
            else:
                self.operator(*found.groups(), style)
        self.literal(text[at:], style)

    def literal(self, text, style):
        self.text(quoted(text)[1:-1] if style == JSON_INNER else text)

    def done(self, source):
        base = {"pseudo": 0, "request": len(PSEUDO), "response": len(PSEUDO) + len(self.fields["request"])}
        steps = []
        for op, style, field, other, most, text in self.steps:
            field = base[field[0]] + field[1] if field else 0
            other = base[other[0]] + other[1] if other else field
            if steps and op == "TEXT" == steps[-1][0]:
                steps[-1] = (*steps[-1][:5], steps[-1][5] + text)
            else:
                steps.append((op, style, field, other, most, text))
        return Format(steps=steps, request=self.fields["request"], response=self.fields["response"], source=source)


def text_format(text):
    """Raises ValueError with what is wrong."""
    builder = Builder()
    builder.format(text, PLAIN)
    return builder.done(text)


def json_format(fields):
    """{key: text}: one object a line. A text that is one operator has its type; others are strings."""
    builder, before = Builder(), "{"
    for key, text in fields.items():
        builder.text(before + quoted(key) + ":")
        single = STEP.fullmatch(text)
        if single and single[1]:
            builder.operator(*single.groups(), JSON)
        else:
            builder.text('"')
            builder.format(text, JSON_INNER)
            builder.text('"')
        before = ","
    builder.text("}\n" if fields else "{}\n")
    return builder.done(fields)

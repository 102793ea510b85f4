"""Formats of the access log: Envoy's operators, and what is wrong with a format."""

import json

import pytest

from fastproxy.model.logformat import DEFAULT, DEFAULT_JSON, json_format, text_format


def test_the_default_is_envoys():
    made = text_format(DEFAULT)
    assert made.request == ["x-envoy-original-path", "x-forwarded-for", "user-agent", "x-request-id"] and made.response == []
    ops = [(op, field, other) for op, _, field, other, _, _ in made.steps if op != "TEXT"]
    assert ops[:4] == [("START_TIME", 0, 0), ("NOTED", 0, 0), ("NOTED", 3, 1), ("PROTOCOL", 0, 0)]
    assert [op for op, _, _ in ops[4:10]] == ["STATUS", "FLAGS", "RECEIVED", "SENT", "DURATION", "UPSTREAM_TIME"]
    assert ops[10:] == [("NOTED", 4, 4), ("NOTED", 5, 5), ("REQUEST_ID", 6, 6), ("NOTED", 2, 2), ("UPSTREAM", 0, 0)]
    assert made.steps[-1] == ("TEXT", 0, 0, 0, 0, b'"\n')


def test_fields_of_the_response_come_behind_those_of_the_request():
    made = text_format("%RESP(A)%%REQ(B):7%%RESP(C?A)%%REQ(b?:METHOD)%")
    assert (made.request, made.response) == (["b"], ["a", "c"])
    assert [(field, other, most) for _, _, field, other, most, _ in made.steps] == [(4, 4, 0), (3, 3, 7), (5, 4, 0), (3, 0, 0)]


def test_text():
    assert [step[5] for step in text_format("100%% \"é\"\n").steps] == ['100% "é"\n'.encode()]
    assert text_format("%START_TIME(%d/%b/%Y:%H:%M:%S)%").steps == [("START_TIME", 0, 0, 0, 0, b"%d/%b/%Y:%H:%M:%S")]


def test_json():
    made = json_format({"a": "%DURATION%", 'q"': "x \"%PROTOCOL%\" 50%%", "empty": ""})
    assert [(op, style, text) for op, style, _, _, _, text in made.steps] == [
        ("TEXT", 0, b'{"a":'), ("DURATION", 1, b""), ("TEXT", 0, b',"q\\"":"x \\"'), ("PROTOCOL", 2, b""), ("TEXT", 0, b'\\" 50%","empty":""}\n')]
    assert json.loads(b"".join(text or b"1" for *_, text in json_format(DEFAULT_JSON).steps)) == dict.fromkeys(DEFAULT_JSON, 1)


@pytest.mark.parametrize("text, what", [
    ("%NOBODY%", "unknown operator %NOBODY%"), ("100%", "a % that begins no operator"), ("%REQ%", "`` is not the name"), ("%REQ(a b)%", "is not the name"),
    ("%REQ(:scheme)%", "there are :method"), ("%DURATION(x)%", "takes no argument"), ("%START_TIME(%f)%", "strftime"), ("%RESP(:path)%", "is not the name"),
    ("".join(f"%REQ(h{i})%" for i in range(33)), "more than 32")])
def test_what_is_wrong(text, what):
    with pytest.raises(ValueError, match="(?i)" + what.replace("(", r"\(").replace("`", "`")):
        text_format(text)

"""No proxy at all: the control of the latency scenario, which shows how much of it is the machine."""
NAME, ORDER = "direct", 9
PORTS = {"http"}
MISSING = ""
CONTROL = True                  # only where a control is wanted


def find():
    return "-"


def version(program):
    return "-"


def command(program, setup):
    return None

"""Tables, and how figures look in them."""


def table(names, rows):
    rows = [names, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def success(status):
    """Share of answers which are no 5xx: those are the proxy's or the upstream's fault."""
    total = sum(status.values())
    return f"{100 * (total - status['5xx']) / total:.2f}%" if total else "-"


def ms(value):
    return "-" if value is None else f"{value:.3g}ms" if value < 1000 else f"{value / 1000:.3g}s"


def rate(n, seconds):
    per_second = n / seconds if seconds > 0 else 0
    return f"{per_second:.0f}" if per_second >= 100 or not n else f"{per_second:.3g}"


def size(n):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            break
        n /= 1024
    else:
        unit = "TiB"
    return f"{n:.0f}{unit}" if unit == "B" or n >= 100 else f"{n:.3g}{unit}"

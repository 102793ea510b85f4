"""Measures fastproxy beside other proxies on one machine: what a request costs, how long it takes, what memory it holds."""

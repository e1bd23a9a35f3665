"""Toxiproxy's HTTP API, spoken by our own proxy: the same paths, codes, texts and defaults, and fewer surprises.

    http        requests and answers on a connection, framed by h11
    router      which handler a method and a path mean
    handlers    one function for each endpoint
    proxies     the proxies by name, and what may happen to them
    toxics      the toxics of one proxy
    addresses   listen and upstream addresses as Go reads them
    bodies      what bodies ask for
    scanner     JSON as Go's decoder reads it
    fields      the values of a body, with Go's words for those that do not fit
    encoding    answers as Go writes them
    failure     what the API answers when it cannot do as asked
    metrics     counters in Prometheus' text format
    service     the API on a port
    alone       the API and its proxies as a program of their own

What differs from Toxiproxy on purpose is listed in docs/reference/proxy-api.md.
"""

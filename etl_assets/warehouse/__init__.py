"""transformation → warehouse: schema `warehouse` of a PostgreSQL. A dimension's row is the latest version of an
entity, a fact's row one version of an event.

schema       its tables, read off the declarations
load         one transaction that takes captures in their order; what is loaded already changes nothing
quarantine   rows that cannot be loaded yet: rejected, or waiting for a row they refer to
assets       the assets and their checks
"""

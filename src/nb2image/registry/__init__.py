"""Container registries: references, credentials, a client, and images pushed to and pulled from them.

::

    parse_reference ──▶ Reference
    Registry(domain) ── credentials.py, tokens.py: what it wants to see
        ├─ manifest, blob          ◀── pull.py: an Image whose layers are downloaded when they are opened
        └─ has, mount, upload      ◀── push.py: what the registry lacks of an Image
"""

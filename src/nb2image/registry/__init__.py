"""Container registries: references, credentials, a client, and images pushed to and pulled from them.

::

    parse_reference ──▶ Reference
    Registry(domain) ── transport.py: HTTP to it ── credentials.py, tokens.py, certificates.py: who is trusted
        ├─ manifest, blob          ◀── pull.py: an Image whose layers are downloaded when they are opened
        ├─ has, mount, upload      ◀── push.py: what the registry lacks of an Image
        └─ referrers.py: what names an image as its subject; copy.py takes that along
"""

"""The embedded schema registry: Confluent's REST over PostgreSQL, for a start without another server.

It does what serializers need (register, look up, versions, compatibility, configuration) and no more: no
deletion, no schema references, no data contracts, Avro only. Any compatible registry can take its place.
"""

from penstock.registry.app import create_app
from penstock.registry.options import RegistryOptions
from penstock.registry.server import serve

__all__ = ["RegistryOptions", "create_app", "serve"]

"""The WSGI entry point: ``uwsgi --http-socket :8066 --master --module pacifica.ingest.wsgi``."""

from .service import SERVICE

application = SERVICE.application()

"""The WSGI entry point: ``uwsgi --http-socket :8069 --master --module pacifica.flow.wsgi``."""

from .service import SERVICE

application = SERVICE.application()

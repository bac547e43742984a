"""The WSGI entry point: ``uwsgi --http-socket :8080 --master --module pacifica.datasafe.wsgi``."""

from .service import SERVICE

application = SERVICE.application()

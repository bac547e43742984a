"""The WSGI entry point: ``uwsgi --http-socket :8081 --master --module pacifica.cartd.wsgi``."""

from .service import SERVICE

application = SERVICE.application()

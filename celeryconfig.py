"""Read by `celery` without `-A`, which would look for RabbitMQ on this machine again and again."""

import sys

if "celery" in sys.argv[0] and not any(argument.startswith(("-A", "--app")) for argument in sys.argv):
    raise SystemExit("celery needs the name of this program's module: run celery -A celery_worker worker")

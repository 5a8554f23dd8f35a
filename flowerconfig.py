"""How `celery -A celery_worker flower` serves: on this machine only, unless told otherwise."""

import os

# Flower reads this file after the environment: what the environment says is repeated here.
address = os.environ.get("FLOWER_ADDRESS", "127.0.0.1")
#: Tasks kept for the pages; a hundred thousand, the default, take several hundred MB.
max_tasks = int(os.environ.get("FLOWER_MAX_TASKS", "10000"))
#: Seconds after which a worker that is gone leaves the list.
purge_offline_workers = int(os.environ.get("FLOWER_PURGE_OFFLINE_WORKERS", "60"))

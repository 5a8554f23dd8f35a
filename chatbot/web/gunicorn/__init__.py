"""gunicorn's worker, hooks and logger, as `entry/gunicorn_conf.py` names them."""

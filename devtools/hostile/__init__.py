"""Malformed and hostile requests and frames by the thousand, and a check that they do no harm.

Afterwards the same processes must serve as before, with as much memory and as many open files, and neither their logs
nor their answers may hold a traceback.
"""

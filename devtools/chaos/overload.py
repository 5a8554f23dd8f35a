from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    what: str
    bar: str
    measured: str
    met: bool

    @property
    def verdict(self) -> str:
        return "met" if self.met else "not met"


TRIES = {}

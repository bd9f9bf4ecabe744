"""Write deploy/grafana/: `python -m deploy.dashboards`."""

from __future__ import annotations

from deploy.dashboards.files import GRAFANA, write


def main() -> None:
    """Write what changed, and say so."""
    changed = write()
    for path in changed:
        print(f"{'wrote' if path.exists() else 'removed'} {path.relative_to(GRAFANA.parents[1])}")
    if not changed:
        print("nothing changed")


if __name__ == "__main__":
    main()

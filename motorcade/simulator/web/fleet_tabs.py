"""Tabs of Locust's web UI: fleet, delivery, latency, stages and faults."""

import json
from typing import Any

from flask import Response, request

from motorcade.simulator.master_control import MasterControl
from motorcade.simulator.web.tab_rows import FAULTS, TABS, rows_of


def add_tabs(web_ui: Any, control: MasterControl) -> None:
    """Put the tabs into the UI and their rows into its poll for statistics."""
    web_ui.template_args["extended_tabs"] = [
        {"title": title, "key": key} for key, (title, _, _) in TABS.items()
    ]
    web_ui.template_args["extended_tables"] = [
        {"key": key, "structure": [{"key": name, "title": text} for name, text in columns]}
        for key, (_, columns, _) in TABS.items()
    ]

    def add_rows(response: Response) -> Response:
        if request.path.endswith("/stats/requests") and response.is_json:
            shown = {**control.fleet(), "newest_faults": control.state.newest_faults(FAULTS)}
            rows = [{"key": key, "data": data} for key, data in rows_of(shown).items()]
            response.set_data(json.dumps({**(response.json or {}), "extended_stats": rows}))
        return response

    web_ui.app.after_request(add_rows)

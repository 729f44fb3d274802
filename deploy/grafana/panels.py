"""Panels of Grafana, in the few forms that Umbel's dashboards use.

Each takes its title, what it shows (and what to do when it is red), and its queries: pairs of an expression and
the legend of its series.
"""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 41
PLUGIN_VERSION = "12.0.0"


def steps(*levels):
    """Thresholds: green, and for each pair the colour from that value on."""
    first = [{"color": "green", "value": None}]
    return {"mode": "absolute", "steps": first + [{"color": c, "value": v} for v, c in levels]}


def from_red(value):
    """Thresholds of what is red unless it is at least so much."""
    return {
        "mode": "absolute",
        "steps": [{"color": "red", "value": None}, {"color": "green", "value": value}],
    }


NONE = {"mode": "absolute", "steps": [{"color": "blue", "value": None}]}


def targets(queries, **more):
    made = []
    for place, (expression, legend) in enumerate(queries):
        made.append(
            {
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": " ".join(expression.split()),
                "legendFormat": legend,
                "refId": chr(ord("A") + place),
            }
            | more
        )
    return made


def panel(kind, title, description, size, queries, defaults, options, overrides=()):
    """The size is (width, height) in Grafana's grid of 24 columns; the place comes later."""
    width, height = size
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "pluginVersion": PLUGIN_VERSION,
        "targets": queries,
    }


def lines(title, description, *queries, unit="short", size=(8, 8), stack=False, red=None, most=None, least=0):
    """Lines over time; `red` is the value from which on it is bad."""
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 35 if stack else 8,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "axisPlacement": "auto",
        "thresholdsStyle": {"mode": "off" if red is None else "line"},
    }
    defaults = {"unit": unit, "color": {"mode": "palette-classic"}, "custom": custom}
    defaults["thresholds"] = NONE if red is None else steps((red, "red"))
    if least is not None:
        defaults["min"] = least
    if most is not None:
        defaults["max"] = most
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, size, targets(queries, range=True), defaults, options)


def stat(title, description, *queries, unit="short", size=(3, 4), thresholds=NONE, names=None, spark=True, text="value"):
    """A number, with its course behind it. `names` says what certain values mean."""
    defaults = {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": thresholds, "noValue": "–"}
    if names:
        said = {str(value): {"text": name, "index": at} for at, (value, name) in enumerate(names.items())}
        defaults["mappings"] = [{"type": "value", "options": said}]
    options = {
        "colorMode": "value",
        "graphMode": "area" if spark else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": text,
        "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("stat", title, description, size, targets(queries, range=True), defaults, options)


def ratio_gauge(title, description, *queries, size=(4, 6), warn=0.7, red=0.85):
    """How much of something is used."""
    return _used("gauge", title, description, queries, size, warn, red, {"showThresholdLabels": False, "showThresholdMarkers": True, "orientation": "auto"})


def ratio_bars(title, description, *queries, size=(8, 8), warn=0.7, red=0.85):
    """How much of something is used, a bar per series."""
    return _used("bargauge", title, description, queries, size, warn, red, {"displayMode": "basic", "orientation": "horizontal", "showUnfilled": True, "valueMode": "color", "namePlacement": "auto", "sizing": "auto"})


def _used(kind, title, description, queries, size, warn, red, options):
    defaults = {
        "unit": "percentunit",
        "min": 0,
        "max": 1,
        "color": {"mode": "thresholds"},
        "thresholds": steps((warn, "orange"), (red, "red")),
        "noValue": "–",
    }
    options = options | {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return panel(kind, title, description, size, targets(queries, instant=True, range=False), defaults, options)


def heatmap(title, description, expression, unit="s", size=(12, 8)):
    """How a histogram's observations lie, over time. The expression gives buckets by `le`."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange", "reverse": False, "scale": "exponential"},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    queries = targets([(expression, "{{le}}")], range=True, format="heatmap")
    defaults = {"custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}, "scaleDistribution": {"type": "linear"}}}
    return panel("heatmap", title, description, size, queries, defaults, options)


def table(title, description, columns, hidden=(), links=None, size=(24, 8)):
    """A row per set of labels. A column is (name, expression, unit, thresholds or None)."""
    queries = targets([(expression, "") for _, expression, _, _ in columns], instant=True, range=False, format="table")
    overrides = []
    names, order = {}, {}
    for place, (name, _, unit, thresholds) in enumerate(columns):
        names[f"Value #{chr(ord('A') + place)}"] = name
        order[f"Value #{chr(ord('A') + place)}"] = 10 + place
        properties = [{"id": "unit", "value": unit}]
        if thresholds:
            properties += [
                {"id": "thresholds", "value": thresholds},
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            ]
        overrides.append({"matcher": {"id": "byName", "options": name}, "properties": properties})
    for label, url in (links or {}).items():
        link = [{"id": "links", "value": [{"title": "Its dashboard", "url": url}]}]
        overrides.append({"matcher": {"id": "byName", "options": label}, "properties": link})
    defaults = {"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}, "color": {"mode": "thresholds"}, "thresholds": NONE, "noValue": "–"}
    options = {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""}}
    made = panel("table", title, description, size, queries, defaults, options, overrides)
    away = {"Time": True} | dict.fromkeys(hidden, True)
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": away, "indexByName": order, "renameByName": names}},
    ]
    return made


def choice(name, label, query, several):
    """A variable whose values Prometheus knows."""
    made = {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "hide": 0,
        "skipUrlSync": False,
        "multi": several,
        "includeAll": True,
        # Also where the label is missing.
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]} if several else {"selected": True, "text": "All", "value": "$__all"},
        "options": [],
    }
    return made


def annotation(name, expression, colour, title, text, at_value=False):
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": " ".join(expression.split()),
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "cluster,instance",
        "useValueForTime": at_value,
        "step": "15s",
    }


def dashboard(uid, title, description, variables, annotations, links, rows):
    """Puts the panels of each row into the grid, from left to right."""
    placed, y, number = [], 0, 1
    for name, panels in rows:
        placed.append({"type": "row", "title": name, "id": number, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        number, y = number + 1, y + 1
        x, tallest = 0, 0
        for made in panels:
            width, height = made["gridPos"]["w"], made["gridPos"]["h"]
            if x + width > 24:
                x, y, tallest = 0, y + tallest, 0
            placed.append({"id": number} | made | {"gridPos": {"x": x, "y": y, "w": width, "h": height}})
            number, x, tallest = number + 1, x + width, max(tallest, height)
        y += tallest
    source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "regex": "", "refresh": 1, "hide": 0, "multi": False, "includeAll": False, "skipUrlSync": False, "current": {}, "options": []}
    builtin = {"builtIn": 1, "name": "Annotations & Alerts", "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": True, "hide": True, "iconColor": "rgba(0, 211, 255, 1)", "type": "dashboard"}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["umbel"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "liveNow": False,
        "preload": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "annotations": {"list": [builtin, *annotations]},
        "links": links,
        "templating": {"list": [source, *variables]},
        "panels": placed,
    }

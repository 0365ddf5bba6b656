"""What all dashboards have in common: variables, links between them, and the few kinds of panel that they use.

A query names metrics as `docs/metrics.md` does, with `$where` for the labels that select what is looked at: the routers chosen
above the dashboard, and where a dashboard says so, interfaces or workers.
"""
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "sluice"
# Of the router's own losses any is too many; what the policy drops is nobody's fault.
ANY_IS_BAD = [(None, "green"), (1e-9, "red")]
FILLING = [(None, "green"), (0.8, "orange"), (0.95, "red")]


def board(uid, title, description):
    """An empty dashboard, with the variables `datasource` and `instance`."""
    return (
        dashboard.Dashboard(f"Sluice / {title}")
        .uid(f"sluice-{uid}")
        .description(description)
        .tags([TAG])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Sluice")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(choice("instance", "Router", 'label_values(sluice_build_info{job="sluice"}, instance)'))
    )


def choice(name, label, query):
    """A variable of which several values, or all, can be chosen."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )


def row(title):
    """A heading."""
    return dashboard.Row(title)


def graph(title, unit, description, *queries, width=8, stacked=False, most=None):
    """Lines over time; a query is an expression with its legend."""
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(kinds.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
        .min(0)
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if most is not None:
        panel = panel.max(most)
    return finish(panel, title, unit, description, queries, width, 8)


def number(title, unit, description, expression, steps=None, width=4, legend="{{instance}}"):
    """One large number for each router, coloured by the steps that it is above."""
    panel = (
        stat.Panel()
        .graph_mode(kinds.BigValueGraphMode.AREA)
        .color_mode(kinds.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(thresholds(steps or [(None, "blue")]))
    )
    return finish(panel, title, unit, description, [(expression, legend)], width, 4)


def state(title, description, expression, words, width=4, legend="{{instance}}"):
    """A word for each router: `words` maps values to words and colours."""
    options = {str(value): model.ValueMappingResult(text=word, color=color) for value, word, color in words}
    panel = (
        stat.Panel()
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .color_mode(kinds.BigValueColorMode.BACKGROUND)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .mappings([model.ValueMap(options=options)])
        .thresholds(thresholds([(None, "text")]))
    )
    return finish(panel, title, "none", description, [(expression, legend)], width, 4)


def listing(title, unit, description, expression, width=12):
    """The values of now as a table, a label a column."""
    target = prometheus.Dataquery().expr(select(expression)).instant().format(PromQueryFormat.TABLE).ref_id("A")
    hidden = {"Time": True, "job": True, "__name__": True}
    return (
        table.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .height(9)
        .span(width)
        .with_transformation(model.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden}))
        .with_target(target.datasource(SOURCE))
    )


def finish(panel, title, unit, description, queries, width, height):
    """What every panel has."""
    panel = panel.title(title).description(description).unit(unit).datasource(SOURCE).height(height).span(width)
    for ref, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        target = prometheus.Dataquery().expr(select(expression)).legend_format(legend).ref_id(ref).range()
        panel = panel.with_target(target.datasource(SOURCE))
    return panel


def select(expression):
    """An expression with its selection written out."""
    return expression.replace("$where", 'job="sluice",instance=~"$instance"')


def thresholds(steps):
    """Colours from values on; the first step is for all that is below."""
    steps = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)

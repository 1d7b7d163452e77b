package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// docs is where the pages are that panels link to. The chart replaces it by the value metrics.dashboards.docsURL.
const docs = "https://github.com/caly-dev/caly/blob/main/docs/"

// board is a dashboard: rows of panels.
type board struct {
	// name is the name of the file, and the end of the dashboard's uid.
	name, title, description string
	variables                []variable
	rows                     []row
}

type row struct {
	title  string
	panels []panel
}

// variable is a list of label values that Grafana offers at the top of a dashboard.
type variable struct {
	name, label, query string
	multi              bool
}

var (
	namespaces = variable{name: "namespace", label: "Namespace", query: "label_values(caly_tenants, namespace)"}
	pods       = variable{
		name:  "pod",
		label: "Pod",
		query: `label_values(caly_build_info{namespace="$namespace"}, pod)`,
		multi: true,
	}
	tenants = variable{
		name:  "tenant",
		label: "Tenant",
		query: `query_result(group by (tenant) ({__name__=~"caly_tenant_(calls|dead_events|.*_total|recordings_.*)",` +
			`namespace="$namespace"}))`,
	}
)

// build returns the dashboard as Grafana reads it.
func (b board) build() (dashboard.Dashboard, error) {
	builder := dashboard.NewDashboardBuilder(b.title).
		Uid("caly-"+b.name).
		Description(b.description).
		Tags([]string{"caly"}).
		Timezone("browser").
		Time("now-6h", "now").
		Refresh("1m").
		Readonly().
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("Caly").
			Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"caly"}).
			IncludeVars(true).
			KeepTime(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		Annotation(rollouts())
	for _, v := range b.variables {
		builder.WithVariable(v.builder())
	}
	for _, r := range b.rows {
		builder.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			builder.WithPanel(p.builder())
		}
	}
	built, err := builder.Build()
	if err == nil {
		number(built.Panels)
		place(built.Links)
	}
	return built, err
}

// number gives each panel an id of its own, so that a link to one panel stays valid.
func number(panels []dashboard.PanelOrRowPanel) {
	for i, p := range panels {
		id := uint32(i + 1)
		if p.Panel != nil {
			p.Panel.Id = &id
			place(p.Panel.Links)
		} else {
			p.RowPanel.Id = id
		}
	}
}

// place has Grafana show the links where it does by default. The library's own default hides them in a menu.
func place(links []dashboard.DashboardLink) {
	for i := range links {
		links[i].Placement = nil
	}
}

func (v variable) builder() cog.Builder[dashboard.VariableModel] {
	builder := dashboard.NewQueryVariableBuilder(v.name).
		Label(v.label).
		Datasource(source()).
		Query(dashboard.StringOrMap{String: &v.query}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc)
	if v.name == tenants.name {
		builder.Regex(`/tenant="([^"]+)"/`)
	}
	if v.multi {
		builder.Multi(true).IncludeAll(true).AllValue(".*").Current(dashboard.VariableOption{
			Text:  dashboard.StringOrArrayOfString{String: cog.ToPtr("All")},
			Value: dashboard.StringOrArrayOfString{String: cog.ToPtr("$__all")},
		})
	}
	return builder
}

// rollout is true while pods run a version or revision that no pod ran 5 minutes ago. It is false after an outage of
// all pods.
const rollout = `count by (version, revision) (caly_build_info{namespace="$namespace"})` +
	` unless count by (version, revision) (caly_build_info{namespace="$namespace"} offset 5m)` +
	` and on () (count(caly_build_info{namespace="$namespace"} offset 5m))`

func rollouts() cog.Builder[dashboard.AnnotationQuery] {
	return dashboard.NewAnnotationQueryBuilder().
		Name("Rollouts").
		Datasource(source()).
		Enable(true).
		IconColor("blue").
		Expr(rollout).
		Step("60s").
		TitleFormat("Rollout").
		TextFormat("{{version}} {{revision}}").
		Target(prometheus.NewDataqueryBuilder().Expr(rollout).RefId("Anno"))
}

// source returns the data source that the reader has chosen.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

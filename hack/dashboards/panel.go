package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// panel is a graph, or one number with a colour.
type panel struct {
	title, unit string
	// description says what is good, what is bad and what to do.
	description string
	// page is the page of docs/ that the panel links to, with an anchor or without.
	page    string
	queries []query
	// stat panels show one number: green, yellow from warn on, red from bad on. Without bad they have no colour.
	stat bool
	warn *float64
	bad  *float64
	// stacked graphs show parts of a whole.
	stacked bool
}

type query struct {
	expr string
	// legend names a series, as Grafana's template. Empty: the title of the panel.
	legend string
}

// one returns the query of a panel that has only one.
func one(expr, legend string) []query { return []query{{expr, legend}} }

// at returns a threshold.
func at(value float64) *float64 { return &value }

// Widths are parts of 24 columns.
const (
	statWidth   = 4
	statHeight  = 4
	graphWidth  = 8
	graphHeight = 8
)

func (p panel) builder() cog.Builder[dashboard.Panel] {
	if p.stat {
		return p.number()
	}
	return p.graph()
}

func (p panel) number() cog.Builder[dashboard.Panel] {
	builder := stat.NewPanelBuilder().
		Title(p.title).
		Description(p.description).
		Datasource(source()).
		Links(p.links()).
		Unit(p.unit).
		Span(statWidth).
		Height(statHeight).
		Targets(p.targets()).
		Thresholds(p.thresholds()).
		GraphMode(common.BigValueGraphModeNone).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}).Values(false))
	if p.bad == nil {
		return builder.ColorMode(common.BigValueColorModeNone)
	}
	return builder.ColorMode(common.BigValueColorModeBackground)
}

func (p panel) graph() cog.Builder[dashboard.Panel] {
	builder := timeseries.NewPanelBuilder().
		Title(p.title).
		Description(p.description).
		Datasource(source()).
		Links(p.links()).
		Unit(p.unit).
		Min(0).
		Span(graphWidth).
		Height(graphHeight).
		Targets(p.targets()).
		FillOpacity(10).
		Legend(common.NewVizLegendOptionsBuilder().
			ShowLegend(true).
			DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().
			Mode(common.TooltipDisplayModeMulti).
			Sort(common.SortOrderDescending))
	if p.stacked {
		builder.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A"))
	}
	if p.bad != nil {
		builder.Thresholds(p.thresholds()).
			ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return builder
}

func (p panel) targets() []cog.Builder[variants.Dataquery] {
	var targets []cog.Builder[variants.Dataquery]
	for i, q := range p.queries {
		target := prometheus.NewDataqueryBuilder().
			Datasource(source()).
			Expr(q.expr).
			LegendFormat(q.legend).
			RefId(string(rune('A' + i)))
		if p.stat {
			target.Instant()
		} else {
			target.Range()
		}
		targets = append(targets, target)
	}
	return targets
}

func (p panel) links() []cog.Builder[dashboard.DashboardLink] {
	link := dashboard.NewDashboardLinkBuilder("What to do").
		Type(dashboard.DashboardLinkTypeLink).
		Url(docs + p.page).
		TargetBlank(true)
	return []cog.Builder[dashboard.DashboardLink]{link}
}

func (p panel) thresholds() cog.Builder[dashboard.ThresholdsConfig] {
	steps := []dashboard.Threshold{{Color: "green"}}
	if p.warn != nil {
		steps = append(steps, dashboard.Threshold{Color: "yellow", Value: p.warn})
	}
	if p.bad != nil {
		steps = append(steps, dashboard.Threshold{Color: "red", Value: p.bad})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

// graph returns a panel with lines over time.
func graph(title, unit, page, description string, queries ...query) panel {
	return panel{title: title, unit: unit, page: page, description: description, queries: queries}
}

// stack returns a graph of parts of a whole.
func stack(title, unit, page, description string, queries ...query) panel {
	p := graph(title, unit, page, description, queries...)
	p.stacked = true
	return p
}

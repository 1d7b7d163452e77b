// Command draw draws the chart's dashboards as pictures, from the data of a Prometheus. The documentation shows them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/model"

	"github.com/caly-dev/caly/test/prometheus/internal/dashboard"
	"github.com/caly-dev/caly/test/prometheus/internal/promapi"
)

// maxBytes is the largest picture.
const maxBytes = 200_000

type options struct {
	url, dashboards, out, tenant, end string
	span                              time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.url, "prometheus", "http://127.0.0.1:17099", "address of Prometheus")
	flag.StringVar(&o.dashboards, "dashboards", "../../charts/caly/dashboards", "folder of the dashboards")
	flag.StringVar(&o.out, "out", "../../docs/images", "folder of the pictures")
	flag.StringVar(&o.tenant, "tenant", "", "Tenant of the dashboard of one Tenant, as namespace/name")
	flag.StringVar(&o.end, "end", "", "time of the right edge, as RFC 3339; now without")
	flag.DurationVar(&o.span, "span", 15*time.Minute, "time from the left edge to the right one")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "draw:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	end := time.Now()
	if o.end != "" {
		var err error
		if end, err = time.Parse(time.RFC3339, o.end); err != nil {
			return err
		}
	}
	const points = 60
	step := max(o.span/points, time.Second).Round(time.Second)
	end = end.UTC().Truncate(step)
	over := promapi.Range{Start: end.Add(-o.span), End: end, Step: step}
	boards, err := dashboard.Load(o.dashboards)
	if err != nil {
		return err
	}
	client := promapi.Client{URL: o.url}
	for _, board := range boards {
		filled, err := fill(ctx, client, board, dashboard.Values{"tenant": o.tenant}, over)
		if err != nil {
			return fmt.Errorf("dashboard %s: %w", board.Name, err)
		}
		text := filled.draw()
		if len(text) > maxBytes {
			return fmt.Errorf("dashboard %s: the picture has %d bytes; at most %d are allowed",
				board.Name, len(text), maxBytes)
		}
		path := filepath.Join(o.out, "dashboard-"+board.Name+".svg")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		fmt.Printf("%s: %d bytes\n", path, len(text))
	}
	return nil
}

// picture is a dashboard with its data.
type picture struct {
	title string
	over  promapi.Range
	rows  []pictureRow
}

type pictureRow struct {
	title  string
	panels []filledPanel
}

type filledPanel struct {
	dashboard.Panel
	lines []line
}

// line is a series with the text of its legend.
type line struct {
	legend string
	points []model.SamplePair
}

// fill asks for the data of each panel.
func fill(
	ctx context.Context, client promapi.Client, board dashboard.Board, prefer dashboard.Values, over promapi.Range,
) (picture, error) {
	values, err := board.Choose(ctx, client, prefer, over)
	if err != nil {
		return picture{}, err
	}
	filled := picture{title: board.Title, over: over}
	for _, row := range board.Rows {
		filledRow := pictureRow{title: row.Title}
		for _, panel := range row.Panels {
			withData := filledPanel{Panel: panel}
			for _, query := range panel.Queries {
				series, err := client.QueryRange(ctx, values.Replace(query.Expr, over.Step), over)
				if err != nil {
					return picture{}, err
				}
				for _, stream := range series {
					withData.lines = append(withData.lines, line{
						legend: legend(query.Legend, panel.Title, stream.Metric),
						points: stream.Values,
					})
				}
			}
			filledRow.panels = append(filledRow.panels, withData)
		}
		filled.rows = append(filled.rows, filledRow)
	}
	return filled, nil
}

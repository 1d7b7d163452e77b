// Package dashboard reads the chart's dashboards and their data.
package dashboard

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Board is a dashboard.
type Board struct {
	// Name is the name of the file without its end.
	Name      string
	Title     string
	Variables []Variable
	Rows      []Row
}

// Row is a title with panels.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is a graph or a number.
type Panel struct {
	Title   string
	Unit    string
	Number  bool
	Stacked bool
	// Steps are the colours from a value on, the lowest first.
	Steps   []Step
	Queries []Query
	// Width is in columns, 24 are a line.
	Width int
}

// Step is a colour from a value on. The first step has no value.
type Step struct {
	Value *float64
	Color string
}

// Query is an expression with the template of its legend.
type Query struct {
	Expr   string
	Legend string
}

// Variable is a choice at the top of a dashboard.
type Variable struct {
	Name, Query, Regex string
	All                bool
}

// file is the part of Grafana's JSON that this package uses.
type file struct {
	Title      string      `json:"title"`
	Panels     []filePanel `json:"panels"`
	Templating struct {
		List []fileVariable `json:"list"`
	} `json:"templating"`
}

type fileVariable struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Query      string `json:"query"`
	Regex      string `json:"regex"`
	IncludeAll bool   `json:"includeAll"`
}

type filePanel struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		Width int `json:"w"`
	} `json:"gridPos"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit       string `json:"unit"`
			Thresholds struct {
				Steps []Step `json:"steps"`
			} `json:"thresholds"`
			Custom struct {
				Stacking struct {
					Mode string `json:"mode"`
				} `json:"stacking"`
			} `json:"custom"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

// Load returns the dashboards of a folder, by name.
func Load(folder string) ([]Board, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("%s has no dashboards: %w", folder, err)
	}
	slices.Sort(paths)
	var boards []Board
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var read file
		if err := json.Unmarshal(text, &read); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		boards = append(boards, read.board(strings.TrimSuffix(filepath.Base(path), ".json")))
	}
	return boards, nil
}

func (f file) board(name string) Board {
	board := Board{Name: name, Title: f.Title}
	for _, variable := range f.Templating.List {
		if variable.Type == "query" {
			board.Variables = append(board.Variables, Variable{
				Name:  variable.Name,
				Query: variable.Query,
				Regex: variable.Regex,
				All:   variable.IncludeAll,
			})
		}
	}
	for _, panel := range f.Panels {
		if panel.Type == "row" {
			board.Rows = append(board.Rows, Row{Title: panel.Title})
			continue
		}
		if len(board.Rows) == 0 {
			board.Rows = []Row{{}}
		}
		row := &board.Rows[len(board.Rows)-1]
		row.Panels = append(row.Panels, panel.panel())
	}
	return board
}

func (p filePanel) panel() Panel {
	defaults := p.FieldConfig.Defaults
	panel := Panel{
		Title:   p.Title,
		Unit:    defaults.Unit,
		Number:  p.Type == "stat",
		Stacked: defaults.Custom.Stacking.Mode == "normal",
		Steps:   defaults.Thresholds.Steps,
		Width:   p.GridPos.Width,
	}
	for _, target := range p.Targets {
		panel.Queries = append(panel.Queries, Query{Expr: target.Expr, Legend: target.LegendFormat})
	}
	return panel
}

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Sizes in pixels.
const (
	width       = 1200
	columns     = 24
	gap         = 8
	headHeight  = 44
	rowHeight   = 30
	graphHeight = 230
	statHeight  = 92
)

const style = `  <style>
    text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
    .head { font-size: 18px; font-weight: 600; }
    .row { font-size: 14px; font-weight: 600; }
    .title { font-weight: 600; }
    .small { font-size: 11px; fill: #57606a; }
    .value { font-size: 30px; font-weight: 600; text-anchor: middle; }
    .middle { text-anchor: middle; }
    .end { text-anchor: end; }
    .page { fill: #f6f8fa; }
    .panel { fill: #ffffff; stroke: #d0d7de; }
    .grid { stroke: #d8dee4; stroke-width: 1; }
    .line { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
    .limit { stroke-width: 1; stroke-dasharray: 6 4; }
    .green { fill: #1a7f37; stroke: #1a7f37; }
    .yellow { fill: #9a6700; stroke: #9a6700; }
    .red { fill: #cf222e; stroke: #cf222e; }
    .on { fill: #ffffff; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .small { fill: #9198a1; }
      .page { fill: #0d1117; }
      .panel { fill: #161b22; stroke: #30363d; }
      .grid { stroke: #30363d; }
      .on { fill: #ffffff; }
    }
  </style>
`

// palette are the colours of lines. Each can be seen on white and on black.
var palette = []string{
	"#2f81f7", "#2da44e", "#d4820f", "#a371f7", "#e5534b", "#1b9e9e", "#b8870b", "#768390", "#d63384", "#6f7dd6",
}

// canvas collects the elements of a picture.
type canvas struct {
	strings.Builder
}

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(c, "  "+format+"\n", args...) }

// draw returns the picture as SVG. Equal data gives equal bytes.
func (p picture) draw() string {
	var body canvas
	y := headHeight
	for _, row := range p.rows {
		body.add(`<text class="row" x="%d" y="%d">%s</text>`, gap+4, y+20, escape(row.title))
		y += rowHeight
		y = p.drawPanels(&body, row.panels, y)
	}
	var all canvas
	fmt.Fprintf(&all, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" `+
		"aria-labelledby=\"t\">\n", width, y, width, y)
	all.add(`<title id="t">%s</title>`, escape(p.title))
	all.WriteString(style)
	all.add(`<rect class="page" width="%d" height="%d"/>`, width, y)
	all.add(`<text class="head" x="%d" y="28">%s</text>`, gap+4, escape(p.title))
	all.add(`<text class="small end" x="%d" y="28">%s to %s UTC</text>`, width-gap-4,
		p.over.Start.Format("15:04"), p.over.End.Format("15:04"))
	all.WriteString(body.String())
	all.WriteString("</svg>\n")
	return all.String()
}

// drawPanels places panels from left to right, as Grafana does, and returns the lower edge of the last line.
func (p picture) drawPanels(body *canvas, panels []filledPanel, y int) int {
	column, height := 0, 0
	for _, panel := range panels {
		if column+panel.Width > columns {
			y += height + gap
			column, height = 0, 0
		}
		area := box{
			x:      float64(gap + column*(width-gap)/columns),
			y:      float64(y),
			width:  float64(panel.Width*(width-gap)/columns - gap),
			height: graphHeight,
		}
		if panel.Number {
			area.height = statHeight
			panel.drawNumber(body, area)
		} else {
			panel.drawGraph(body, area, p.over)
		}
		column += panel.Width
		height = max(height, int(area.height))
	}
	return y + height + gap
}

// box is an area of a picture.
type box struct {
	x, y, width, height float64
}

func (b box) frame(body *canvas, title string) {
	body.add(`<rect class="panel" x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="4"/>`, b.x, b.y, b.width, b.height)
	body.add(`<text class="title" x="%.0f" y="%.0f">%s</text>`, b.x+10, b.y+20, escape(short(title, int(b.width/6.5))))
}

// drawNumber draws the last value, in the colour of its size.
func (p filledPanel) drawNumber(body *canvas, area box) {
	area.frame(body, p.Title)
	value := math.NaN()
	for _, series := range p.lines {
		if len(series.points) > 0 {
			value = float64(series.points[len(series.points)-1].Value)
		}
	}
	class := "value"
	if colour := p.colour(value); colour != "" {
		body.add(`<rect class="%s" x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="4"/>`,
			colour, area.x+8, area.y+30, area.width-16, area.height-38)
		class = "value on"
	}
	text := number(value, p.Unit)
	if math.IsNaN(value) {
		text = "No data"
	}
	body.add(`<text class="%s" x="%.0f" y="%.0f">%s</text>`, class, area.x+area.width/2, area.y+70, escape(text))
}

// colour returns the colour of a value; empty if the panel has no thresholds.
func (p filledPanel) colour(value float64) string {
	if len(p.Steps) < 2 || math.IsNaN(value) {
		return ""
	}
	colour := ""
	for _, step := range p.Steps {
		if step.Value == nil || value >= *step.Value {
			colour = step.Color
		}
	}
	return colour
}

// sorted returns the lines that have data, the highest first, since not all of them have room in the legend.
func (p filledPanel) sorted() []line {
	lines := slices.DeleteFunc(slices.Clone(p.lines), func(l line) bool { return len(l.points) == 0 })
	slices.SortStableFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(b.peak(), a.peak()), strings.Compare(a.legend, b.legend))
	})
	return lines
}

// peak returns the highest value of a line.
func (l line) peak() float64 {
	highest := 0.0
	for _, point := range l.points {
		if value := float64(point.Value); value > highest { // false for NaN
			highest = value
		}
	}
	return highest
}

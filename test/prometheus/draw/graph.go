package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/caly-dev/caly/test/prometheus/internal/promapi"
)

// maxLegends bounds the texts below a graph, and maxLines its lines.
const (
	maxLegends = 6
	maxLines   = 30
)

// drawGraph draws lines over time, with a legend below.
func (p filledPanel) drawGraph(body *canvas, area box, over promapi.Range) {
	area.frame(body, p.Title)
	lines := p.sorted()
	plot := box{x: area.x + 76, y: area.y + 34, width: area.width - 90, height: area.height - 100}
	if len(lines) == 0 {
		body.add(
			`<text class="small middle" x="%.0f" y="%.0f">No data</text>`, area.x+area.width/2, area.y+area.height/2,
		)
		return
	}
	more := 0
	if len(lines) > maxLines {
		more, lines = len(lines)-maxLines, lines[:maxLines]
	}
	graphs := curves(lines, p.Stacked, over)
	top := p.top(graphs)
	drawGrid(body, plot, top, p.Unit, over)
	for i, graph := range graphs {
		colour := palette[i%len(palette)]
		if area := graph.area(plot, top); p.Stacked && area != "" {
			body.add(`<path d="%s" fill="%s" fill-opacity="0.18"/>`, area, colour)
		}
		body.add(`<path class="line" d="%s" stroke="%s"/>`, graph.path(plot, top), colour)
	}
	p.drawLimits(body, plot, top)
	drawLegend(body, area, lines, more)
}

// curve is a line as values at each step, and for a stack the values that it stands on.
type curve struct {
	values, base []float64
}

// curves aligns the points of lines with the steps of the range. A step without a point is NaN.
func curves(lines []line, stacked bool, over promapi.Range) []curve {
	steps := int(over.End.Sub(over.Start)/over.Step) + 1
	sum := make([]float64, steps)
	var all []curve
	for _, series := range lines {
		graph := curve{values: make([]float64, steps), base: make([]float64, steps)}
		for i := range graph.values {
			graph.values[i] = math.NaN()
		}
		for _, point := range series.points {
			step := int(point.Timestamp.Time().Sub(over.Start).Round(time.Second) / over.Step)
			if value := float64(point.Value); step >= 0 && step < steps && !math.IsNaN(value) && !math.IsInf(value, 0) {
				graph.values[step] = value
			}
		}
		for i, value := range graph.values {
			if graph.base[i] = sum[i]; stacked && !math.IsNaN(value) {
				graph.values[i] += sum[i]
				sum[i] = graph.values[i]
			}
		}
		all = append(all, graph)
	}
	return all
}

// top returns the highest value of the axis.
func (p filledPanel) top(graphs []curve) float64 {
	highest := 0.0
	for _, graph := range graphs {
		for _, value := range graph.values {
			if value > highest { // false for NaN
				highest = value
			}
		}
	}
	if highest == 0 {
		highest = 1
	}
	return nice(highest)
}

// nice returns the next larger number that four lines of a grid divide well.
func nice(value float64) float64 {
	size := math.Pow(10, math.Floor(math.Log10(value)))
	for _, factor := range []float64{1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8} {
		if value <= factor*size*1.0001 {
			return factor * size
		}
	}
	return 10 * size
}

func (b box) at(step, steps int, value, top float64) (x, y float64) {
	return b.x + b.width*float64(step)/float64(max(steps-1, 1)), b.y + b.height*(1-min(value/top, 1))
}

// runs returns the first and the last step of each part that has values without a break.
func (c curve) runs() (all [][2]int) {
	for first := 0; first < len(c.values); first++ {
		if math.IsNaN(c.values[first]) {
			continue
		}
		last := first
		for last+1 < len(c.values) && !math.IsNaN(c.values[last+1]) {
			last++
		}
		all = append(all, [2]int{first, last})
		first = last
	}
	return all
}

// path returns the line; a step without a value interrupts it.
func (c curve) path(plot box, top float64) string {
	var text strings.Builder
	for _, run := range c.runs() {
		text.WriteString("M" + plot.points(c.values, run[0], run[1], top))
		if run[0] == run[1] {
			text.WriteString("h1") // a single point is seen too
		}
	}
	return text.String()
}

// area returns the parts between the line and what it stands on.
func (c curve) area(plot box, top float64) string {
	var text strings.Builder
	for _, run := range c.runs() {
		text.WriteString("M" + plot.points(c.values, run[0], run[1], top))
		text.WriteString("L" + plot.points(c.base, run[1], run[0], top) + "Z")
	}
	return text.String()
}

// points returns the corners of a line from one step to another, in either direction. Steps on a level line are left out.
func (b box) points(values []float64, from, to int, top float64) string {
	step := 1
	if to < from {
		step = -1
	}
	var corners []string
	for i := from; ; i += step {
		x, y := b.at(i, len(values), values[i], top)
		if i == from || i == to || !b.level(values, i, top) {
			corners = append(corners, fmt.Sprintf("%.1f %.1f", x, y))
		}
		if i == to {
			return strings.Join(corners, "L")
		}
	}
}

// level reports whether a step and its neighbours are at the same height of the picture.
func (b box) level(values []float64, i int, top float64) bool {
	pixels := func(step int) float64 {
		_, y := b.at(step, len(values), values[step], top)
		return math.Round(y * 10)
	}
	return i > 0 && i < len(values)-1 && pixels(i-1) == pixels(i) && pixels(i) == pixels(i+1)
}

// drawGrid draws four lines with their values, and the time at both ends and in the middle.
func drawGrid(body *canvas, plot box, top float64, unit string, over promapi.Range) {
	for i := range 5 {
		y := plot.y + plot.height*float64(i)/4
		body.add(`<path class="grid" d="M%.1f %.1fh%.1f"/>`, plot.x, y, plot.width)
		body.add(`<text class="small end" x="%.0f" y="%.0f">%s</text>`, plot.x-6, y+4,
			escape(number(top*float64(4-i)/4, unit)))
	}
	for i, class := range []string{"small", "small middle", "small end"} {
		at := over.Start.Add(over.End.Sub(over.Start) * time.Duration(i) / 2)
		body.add(`<text class="%s" x="%.0f" y="%.0f">%s</text>`, class,
			plot.x+plot.width*float64(i)/2, plot.y+plot.height+16, at.Format("15:04"))
	}
}

// drawLimits draws the values from which on the panel is yellow or red, when they are on the axis.
func (p filledPanel) drawLimits(body *canvas, plot box, top float64) {
	for _, step := range p.Steps {
		if step.Value == nil || *step.Value > top || *step.Value <= 0 {
			continue
		}
		_, y := plot.at(0, 1, *step.Value, top)
		body.add(`<path class="limit %s" d="M%.1f %.1fh%.1f"/>`, step.Color, plot.x, y, plot.width)
	}
}

// drawLegend names the lines, two columns below the graph.
func drawLegend(body *canvas, area box, lines []line, more int) {
	shown := lines
	if len(shown) > maxLegends {
		more += len(shown) - maxLegends
		shown = shown[:maxLegends]
	}
	for i, series := range shown {
		x := area.x + 12 + float64(i%2)*area.width/2
		y := area.y + area.height - 38 + float64(i/2)*15
		body.add(`<rect x="%.0f" y="%.0f" width="10" height="3" fill="%s"/>`, x, y-5, palette[i%len(palette)])
		body.add(`<text class="small" x="%.0f" y="%.0f">%s</text>`, x+15, y, escape(short(series.legend, 26)))
	}
	if more > 0 {
		body.add(`<text class="small end" x="%.0f" y="%.0f">and %d more</text>`, area.x+area.width-10, area.y+20, more)
	}
}

package main

import (
	"html"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
)

var placeholder = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)

// legend returns the text of a series: the template with its labels, or the title of the panel.
func legend(template, title string, labels model.Metric) string {
	if template == "" {
		return title
	}
	text := placeholder.ReplaceAllStringFunc(template, func(part string) string {
		return string(labels[model.LabelName(placeholder.FindStringSubmatch(part)[1])])
	})
	if text = strings.TrimSpace(text); text == "" {
		return "(none)"
	}
	return text
}

// short returns at most n characters of a text. The end stays, since it tells pods apart.
func short(text string, n int) string {
	const end = 6
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-end-1]) + "…" + string(runes[len(runes)-end:])
}

func escape(text string) string { return html.EscapeString(text) }

// scale is a unit that a number is written in from a size on.
type scale struct {
	from float64
	unit string
}

var (
	seconds = []scale{{86400, " d"}, {3600, " h"}, {60, " min"}, {1, " s"}, {1e-3, " ms"}, {1e-6, " µs"}}
	decimal = []scale{{1e9, " G"}, {1e6, " M"}, {1e3, " k"}, {1, ""}}
	binary  = []scale{{1 << 30, " GiB"}, {1 << 20, " MiB"}, {1 << 10, " KiB"}, {1, " B"}}
	traffic = []scale{{1e9, " GB/s"}, {1e6, " MB/s"}, {1e3, " kB/s"}, {1, " B/s"}}
)

// number writes a value in the unit of its panel, as Grafana names units.
func number(value float64, unit string) string {
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return "–"
	case value == 0:
		return "0"
	}
	switch unit {
	case "s":
		return scaled(value, seconds)
	case "bytes":
		return scaled(value, binary)
	case "Bps":
		return scaled(value, traffic)
	case "percentunit":
		return digits(value*100) + " %"
	case "reqps":
		return scaled(value, decimal) + " req/s"
	case "ops":
		return scaled(value, decimal) + " ops/s"
	default:
		return scaled(value, decimal)
	}
}

func scaled(value float64, scales []scale) string {
	for _, s := range scales {
		if math.Abs(value) >= s.from {
			return digits(value/s.from) + s.unit
		}
	}
	return digits(value) + scales[len(scales)-1].unit
}

// digits writes a number with three digits that count.
func digits(value float64) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 3, 64), 64) // it is a number that was just written
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

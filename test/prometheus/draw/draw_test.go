package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/caly-dev/caly/test/prometheus/internal/dashboard"
	"github.com/caly-dev/caly/test/prometheus/internal/promapi"
)

func TestNumber(t *testing.T) {
	for name, tc := range map[string]struct {
		value      float64
		unit, want string
	}{
		"none":         {math.NaN(), "s", "–"},
		"zero":         {0, "s", "0"},
		"microseconds": {0.0000251, "s", "25.1 µs"},
		"milliseconds": {0.25, "s", "250 ms"},
		"minutes":      {90, "s", "1.5 min"},
		"days":         {30 * 86400, "s", "30 d"},
		"memory":       {3 << 19, "bytes", "1.5 MiB"},
		"traffic":      {2_500_000, "Bps", "2.5 MB/s"},
		"part":         {0.125, "percentunit", "12.5 %"},
		"requests":     {0.3333, "reqps", "0.333 req/s"},
		"thousands":    {4000, "short", "4 k"},
		"no end":       {math.Inf(1), "short", "–"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := number(tc.value, tc.unit); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLegend(t *testing.T) {
	labels := model.Metric{"code": "database", "pod": "caly-1"}
	for template, want := range map[string]string{
		"":                    "Title",
		"{{code}}":            "database",
		"{{ pod }}: {{code}}": "caly-1: database",
		"{{missing}}":         "(none)",
		"50 %":                "50 %",
	} {
		if got := legend(template, "Title", labels); got != want {
			t.Errorf("%q: got %q, want %q", template, got, want)
		}
	}
}

// TestPath checks that a line breaks where there is no value, and leaves out what a reader cannot see.
func TestPath(t *testing.T) {
	none := math.NaN()
	for name, tc := range map[string]struct {
		values []float64
		want   string
	}{
		"level":     {[]float64{1, 1, 1, 1, 1}, "M0.0 0.0L40.0 0.0"},
		"a peak":    {[]float64{0, 0, 1, 0, 0}, "M0.0 10.0L10.0 10.0L20.0 0.0L30.0 10.0L40.0 10.0"},
		"a gap":     {[]float64{1, none, 0, 0, none}, "M0.0 0.0h1M20.0 10.0L30.0 10.0"},
		"above all": {[]float64{2, none, none, none, none}, "M0.0 0.0h1"},
		"nothing":   {[]float64{none, none, none, none, none}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := curve{values: tc.values, base: make([]float64, 5)}.path(box{width: 40, height: 10}, 1)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("path (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStack checks that each line of a stack stands on those below it.
func TestStack(t *testing.T) {
	over := promapi.Range{Start: time.Unix(0, 0), End: time.Unix(10, 0), Step: 10 * time.Second}
	lines := []line{
		{points: []model.SamplePair{{Timestamp: 0, Value: 1}, {Timestamp: 10_000, Value: 2}}},
		{points: []model.SamplePair{{
			Timestamp: 0,
			Value:     3,
		}, {
			Timestamp: 10_000,
			Value:     model.SampleValue(math.Inf(1)),
		}}},
	}
	got := curves(lines, true, over)
	if got[1].values[0] != 4 || got[1].base[0] != 1 || !math.IsNaN(got[1].values[1]) || got[1].base[1] != 2 {
		t.Errorf("the second line is %v on %v", got[1].values, got[1].base)
	}
	if free := curves(lines, false, over); free[1].values[0] != 3 || free[1].base[0] != 0 {
		t.Errorf("without a stack the second line is %v on %v", free[1].values, free[1].base)
	}
}

// TestDraw checks that a picture is XML, escapes what a label says, and is the same for the same data.
func TestDraw(t *testing.T) {
	limit := 1.0
	panel := dashboard.Panel{Title: "a < b", Unit: "s", Width: 8}
	number := dashboard.Panel{Title: "n", Unit: "short", Number: true, Width: 4}
	number.Steps = []dashboard.Step{{Color: "green"}, {Color: "red", Value: &limit}}
	points := []model.SamplePair{{Timestamp: 0, Value: 1}, {Timestamp: 60_000, Value: 3}}
	p := picture{
		title: "Caly & co",
		over:  promapi.Range{Start: time.Unix(0, 0).UTC(), End: time.Unix(60, 0).UTC(), Step: time.Minute},
		rows: []pictureRow{{
			title: "row",
			panels: []filledPanel{
				{
					Panel: panel,
					lines: []line{{legend: "<z>", points: points}, {legend: "a", points: points}, {legend: "empty"}},
				},
				{Panel: panel},
				{Panel: number, lines: []line{{points: points}}},
				{Panel: number},
			},
		}},
	}
	text := p.draw()
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
	}
	for _, want := range []string{"Caly &amp; co", "a &lt; b", "&lt;z&gt;", "No data", `class="red"`, "00:00 to 00:01 UTC"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
	if again := p.draw(); again != text {
		t.Error("the same data gives another picture")
	}
}

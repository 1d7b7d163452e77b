package main

import (
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// TestPanels checks that each panel has what a reader at night needs: a unit, a description and a page that exists.
func TestPanels(t *testing.T) {
	for _, b := range boards() {
		if b.name == "" || b.title == "" || b.description == "" {
			t.Errorf("dashboard %q (%q) has no name, title or description", b.name, b.title)
		}
		titles := map[string]bool{}
		for _, p := range panels(b) {
			if p.title == "" || p.unit == "" || len(p.queries) == 0 || titles[p.title] {
				t.Errorf("%s: panel %q has no title of its own, no unit or no query", b.title, p.title)
			}
			titles[p.title] = true
			if len(p.description) < 40 || !strings.HasSuffix(p.description, ".") {
				t.Errorf("%s: panel %q has no description of a full sentence: %q", b.title, p.title, p.description)
			}
			if p.warn != nil && (p.bad == nil || *p.warn >= *p.bad) {
				t.Errorf("%s: panel %q warns too late", b.title, p.title)
			}
			if !pageExists(t, p.page) {
				t.Errorf("%s: panel %q links to docs/%s, which does not exist", b.title, p.title, p.page)
			}
		}
	}
}

// TestQueries checks that Prometheus can read each query, and that docs/reference.md has each metric and label in it.
func TestQueries(t *testing.T) {
	known := reference(t)
	for _, b := range boards() {
		for _, p := range panels(b) {
			for _, q := range p.queries {
				for _, problem := range problems(q.expr, known) {
					t.Errorf("%s: panel %q: %s: %s", b.title, p.title, q.expr, problem)
				}
			}
		}
	}
	for _, problem := range problems(rollout, known) {
		t.Errorf("annotation: %s", problem)
	}
}

// TestProblems checks the check itself.
func TestProblems(t *testing.T) {
	known := map[string]map[string]bool{"caly_a_total": {"code": true}, "caly_b_seconds": {}}
	for query, want := range map[string]string{
		`sum by (code) (rate(caly_a_total{namespace="$namespace",code="x"}[$__rate_interval]))`: "",
		`sum(caly_a_total{namespace="$namespace"}`:                                              "unclosed left parenthesis",
		`caly_c{namespace="$namespace"}`:                                                        "docs/reference.md has no metric caly_c",
		`caly_a_total{namespace="$namespace",kind="x"}`:                                         "caly_a_total has no label kind",
		`sum by (kind) (caly_a_total{namespace="$namespace"})`:                                  "caly_a_total has no label kind",
		`caly_a_total`: "caly_a_total is not limited to the namespace",
		`rate(caly_b_seconds_bucket{namespace="$namespace",le="1"}[5m])`: "",
	} {
		got := strings.Join(problems(query, known), "; ")
		if got != want && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

// TestCommittedFiles checks that the chart has the files that this program writes.
func TestCommittedFiles(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	want, got := files(t, dir), files(t, "../../charts/caly/dashboards")
	if !maps.Equal(want, got) {
		t.Error("charts/caly/dashboards is stale: run 'make generate'")
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, entry := range entries {
		texts[entry.Name()] = read(t, dir+"/"+entry.Name())
	}
	return texts
}

func panels(b board) []panel {
	var all []panel
	for _, r := range b.rows {
		all = append(all, r.panels...)
	}
	return all
}

// problems returns what is wrong with a query.
func problems(query string, known map[string]map[string]bool) []string {
	for grafana, value := range map[string]string{"$__rate_interval": "5m", "$__range": "6h"} {
		query = strings.ReplaceAll(query, "["+grafana+"]", "["+value+"]")
	}
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if ok {
			found = append(found, selectorProblems(selector, path, known)...)
		}
		return nil
	})
	return found
}

// others are metrics of the libraries, which docs/reference.md does not list one by one.
var others = regexp.MustCompile(`^(controller_runtime|workqueue|leader_election|rest_client|go|process)_[a-z_]+$`)

func selectorProblems(selector *parser.VectorSelector, path []parser.Node, known map[string]map[string]bool) []string {
	name := selector.Name
	var found []string
	if !hasMatcher(selector.LabelMatchers, "namespace") {
		found = append(found, name+" is not limited to the namespace")
	}
	if others.MatchString(name) {
		return found
	}
	allowed, ok := known[name]
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, suffix); cut && !ok {
			allowed, ok = known[base]
		}
	}
	if !ok {
		return append(found, "docs/reference.md has no metric "+name)
	}
	for _, label := range labelsUsed(selector, path) {
		if !allowed[label] && !target[label] {
			found = append(found, name+" has no label "+label)
		}
	}
	return found
}

// target are the labels that Prometheus adds, and those of histograms.
var target = map[string]bool{"namespace": true, "pod": true, "le": true, "__name__": true}

func hasMatcher(matchers []*labels.Matcher, name string) bool {
	for _, m := range matchers {
		if m.Name == name {
			return true
		}
	}
	return false
}

// labelsUsed returns the labels that a selector and the aggregations around it name.
func labelsUsed(selector *parser.VectorSelector, path []parser.Node) []string {
	var used []string
	for _, m := range selector.LabelMatchers {
		used = append(used, m.Name)
	}
	for _, node := range path {
		if aggregation, ok := node.(*parser.AggregateExpr); ok {
			used = append(used, aggregation.Grouping...)
		}
	}
	return used
}

// reference returns the labels of each metric in docs/reference.md.
func reference(t *testing.T) map[string]map[string]bool {
	t.Helper()
	known := map[string]map[string]bool{}
	quoted := regexp.MustCompile("`([a-z_]+)`")
	_, section, _ := strings.Cut(read(t, "../../docs/reference.md"), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| `caly_") || len(cells) < 4 {
			continue
		}
		has := map[string]bool{}
		for _, label := range quoted.FindAllStringSubmatch(cells[2], -1) {
			has[label[1]] = true
		}
		for _, name := range quoted.FindAllStringSubmatch(cells[0], -1) {
			known[name[1]] = has
		}
	}
	if len(known) < 50 {
		t.Fatalf("docs/reference.md lists %d metrics only: its table has changed", len(known))
	}
	return known
}

func pageExists(t *testing.T, page string) bool {
	t.Helper()
	path, anchor, _ := strings.Cut(page, "#")
	text, err := os.ReadFile("../../docs/" + path)
	if err != nil || !strings.HasSuffix(path, ".md") {
		return false
	}
	if anchor == "" {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if heading := strings.TrimLeft(line, "#"); heading != line && slug(heading) == anchor {
			return true
		}
	}
	return false
}

// slug returns the anchor of a heading.
func slug(heading string) string {
	text := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
	return strings.ReplaceAll(text, " ", "-")
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// rule is an entry of the chart's rule files.
type rule struct {
	Alert       string
	Record      string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

// rules returns all rules of the chart.
func rules(t *testing.T) (list []rule) {
	t.Helper()
	for _, path := range matches(t, "charts/caly/files/rules/*.yaml") {
		var file struct {
			Groups []struct{ Rules []rule }
		}
		if err := yaml.Unmarshal([]byte(readFile(t, path)), &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, group := range file.Groups {
			list = append(list, group.Rules...)
		}
	}
	return list
}

func matches(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(kubetest.Root(), pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	return paths
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRulesNameMetrics checks that each metric of a rule is one that the reference has, or one of a library.
func TestRulesNameMetrics(t *testing.T) {
	reference := readFile(t, filepath.Join(kubetest.Root(), "docs/reference.md"))
	known := map[string]bool{}
	for _, name := range regexp.MustCompile("`(caly_[a-z_]+)`").FindAllStringSubmatch(reference, -1) {
		known[name[1]] = true
	}
	metric := regexp.MustCompile(`\b(caly_[a-z_]+|controller_runtime_[a-z_]+|leader_election_[a-z_]+)\b`)
	libraries := []string{"controller_runtime_reconcile_errors_total", "leader_election_master_status"}
	for _, r := range rules(t) {
		for _, name := range metric.FindAllString(r.Expr, -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count") // of a histogram
			if !known[base] && !slices.Contains(libraries, base) {
				t.Errorf("%s%s names the metric %s, which docs/reference.md does not have", r.Alert, r.Record, name)
			}
		}
	}
}

// TestAlertsHaveRunbooks checks that each alert says what a person needs, has its page and a test, and that each page has its alert.
func TestAlertsHaveRunbooks(t *testing.T) {
	const folder = "https://github.com/caly-dev/caly/blob/main/docs/runbooks/"
	var cases strings.Builder
	for _, path := range matches(t, "charts/caly/ci/rules/*.yaml") {
		cases.WriteString(readFile(t, path))
	}
	index := readFile(t, filepath.Join(kubetest.Root(), "docs/runbooks/README.md"))
	alerts := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts[r.Alert] = true
		if severity := r.Labels["severity"]; severity != "page" && severity != "ticket" {
			t.Errorf("%s has the severity %q, not page or ticket", r.Alert, severity)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", r.Alert)
		}
		if url := r.Annotations["runbook_url"]; url != folder+r.Alert+".md" {
			t.Errorf("%s has the runbook_url %q", r.Alert, url)
		}
		if !strings.Contains(cases.String(), "- name: "+r.Alert+"\n") {
			t.Errorf("%s has no test in charts/caly/ci/rules", r.Alert)
		}
		if !strings.Contains(index, "\n| ["+r.Alert+"]("+r.Alert+".md) |") {
			t.Errorf("docs/runbooks/README.md does not list %s", r.Alert)
		}
	}
	pages := map[string]bool{}
	for _, path := range matches(t, "docs/runbooks/Caly*.md") {
		pages[strings.TrimSuffix(filepath.Base(path), ".md")] = true
	}
	if !maps.Equal(alerts, pages) {
		t.Errorf(
			"alerts and pages of docs/runbooks differ: %q, %q",
			slices.Sorted(maps.Keys(alerts)),
			slices.Sorted(maps.Keys(pages)),
		)
	}
}

// TestRunbookCommands checks that the runbooks have all parts, and that their commands are kubectl's or Caly's own.
func TestRunbookCommands(t *testing.T) {
	root := newRootCommand()
	for _, path := range matches(t, "docs/runbooks/Caly*.md") {
		page, name := readFile(t, path), filepath.Base(path)
		for _, part := range []string{"Meaning", "Impact", "Diagnosis", "Fix", "Prevention"} {
			if !strings.Contains(page, "\n## "+part+"\n\n") {
				t.Errorf("%s has no %s", name, part)
			}
		}
		_, block, _ := strings.Cut(page, "```bash\n")
		block, _, closed := strings.Cut(block, "```")
		if !closed || block == "" {
			t.Errorf("%s has no commands", name)
		}
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, "kubectl ") {
				t.Errorf("%s has a command of another program than kubectl: %s", name, line)
			}
			_, own, inPod := strings.Cut(strings.TrimSpace(line), " -- ")
			if !inPod {
				continue
			}
			words := strings.Fields(own)
			command, arguments, err := root.Find(words[1:])
			if words[0] != "/caly" || err != nil || !command.Runnable() {
				t.Errorf("%s has a command that Caly does not have: %s", name, own)
				continue
			}
			if err := command.ParseFlags(arguments); err != nil {
				t.Errorf("%s: %s: %v", name, own, err)
			}
		}
	}
}
